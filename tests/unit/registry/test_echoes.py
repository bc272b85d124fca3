"""What a request carried is known, so that no server can have it shown by quoting it."""

from __future__ import annotations

import base64

from distworker.logs import MASK
from distworker.registry.echoes import FORM, hide, secrets_sent

URL = "https://reg.example/v2/a/b/blobs/uploads/1?_state=SECRET-STATE%3D%3D&digest=sha256:00&n=1000"


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def test_a_basic_login_is_known_in_all_its_forms() -> None:
    """Encoded, as a pair, and the password by itself; the user name is no secret."""
    sent = secrets_sent(basic("me:SECRET:pass"), "https://reg.example/v2/", b"")
    assert hide("me:SECRET:pass, SECRET:pass or me?", sent) == f"{MASK}, {MASK} or me?"
    assert hide(basic("me:SECRET:pass")["Authorization"], sent) == f"Basic {MASK}"


def test_a_token_and_the_secrets_of_an_address_are_known() -> None:
    """The state of an upload too, as it is and as it was written; digests and numbers stay readable."""
    sent = secrets_sent({"Authorization": "Bearer SECRET-TOKEN"}, URL, b"")
    assert hide("SECRET-TOKEN SECRET-STATE== sha256:00 1000", sent) == f"{MASK} {MASK} sha256:00 1000"


def test_a_form_is_known_and_a_manifest_is_none() -> None:
    """What goes to a token server; never the words of what is being pushed."""
    form = b"grant_type=refresh_token&refresh_token=SECRET-REFRESH&service=registry.example"
    assert secrets_sent({"Content-Type": FORM}, "https://a.example/t", form) == ("SECRET-REFRESH",)
    assert secrets_sent({"Content-Type": "a/b"}, "https://a.example/t", form) == ()


def test_what_is_too_short_or_unreadable_hides_nothing() -> None:
    """A password of three letters stands in every other word."""
    assert hide("abcdef", secrets_sent(basic("me:abc"), "https://a.example/", b"")) == "abcdef"
    assert secrets_sent({"Authorization": "Basic %%%%"}, "https://a.example/", object()) == ("%%%%",)
    assert secrets_sent({}, "https://a.example/", None) == ()
