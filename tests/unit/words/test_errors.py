"""Errors: stable codes, fields that survive every way of travelling, and clean messages."""

from __future__ import annotations

import json
import pickle

import pytest

from distworker import errors
from distworker.errors import CODES, DistworkerError, InternalError, RateLimited, clean, from_dict


def classes(cls: type[DistworkerError]) -> list[type[DistworkerError]]:
    """The class and everything below it."""
    return [cls, *(found for child in cls.__subclasses__() for found in classes(child))]


ALL = [cls for cls in classes(DistworkerError) if cls.__module__ == errors.__name__]


def test_every_error_has_a_code_of_its_own() -> None:
    """Machines tell errors apart by code; the root shares its code with InternalError, which is what it
    means."""
    own = [cls.code for cls in ALL if cls is not DistworkerError]
    assert len(own) == len(set(own))
    assert set(CODES) == set(own)


def test_the_module_text_names_every_error() -> None:
    """The tree at the top of the file is the documentation; it must not fall behind."""
    assert errors.__doc__ is not None
    missing = [cls.__name__ for cls in ALL if cls.__name__ not in errors.__doc__]
    assert missing == []


@pytest.mark.parametrize("cls", [cls for cls in ALL if cls is not DistworkerError])
def test_an_error_survives_json_and_pickle(cls: type[DistworkerError]) -> None:
    """It crosses Redis and processes and comes out as the same error."""
    error = cls("no room", phase="upload", registry="reg.example", status=507, delay=2.5)
    for copy in (pickle.loads(pickle.dumps(error)), from_dict(json.loads(json.dumps(error.to_dict())))):
        assert type(copy) is cls
        assert copy.message == "no room"
        assert copy.fields == error.fields
        assert copy.delay == 2.5
        assert str(copy) == f"{cls.code}: no room"


def test_a_record_of_an_unknown_code_is_still_an_error() -> None:
    """A newer worker may know more errors than we do."""
    error = from_dict({"code": "from_the_future", "message": "hello", "unknown": 1})
    assert type(error) is InternalError
    assert error.message == "hello"


def test_fields_are_only_the_known_ones_and_none_is_left_out() -> None:
    """A misspelt field is a bug at once, not a lost fact later."""
    assert RateLimited("slow", registry=None).fields == {}
    assert RateLimited("slow").delay is None
    with pytest.raises(TypeError, match="url"):
        RateLimited("slow", url="https://x")


def test_foreign_text_is_one_short_printable_line() -> None:
    """Registries answer with web pages and ANSI codes."""
    assert clean("a\x1b[31m\r\n b\t c\x00") == "a [31m b c"
    long = DistworkerError("x" * 10_000).message
    assert len(long) == errors.MESSAGE_LIMIT
    assert long.endswith("…")


#: What may come of talking to a registry, and whether the same request may succeed later: a promise to other
#: systems, as `docs/errors.md` tells it.
VERDICTS = {
    **dict.fromkeys(("invalid_reference", "unsupported_digest", "not_a_registry", "tls_error"), False),
    **dict.fromkeys(("address_refused", "realm_refused", "redirect_refused"), False),
    **dict.fromkeys(("auth_required", "unauthorized", "denied"), False),
    **dict.fromkeys(("repository_unknown", "manifest_unknown", "blob_unknown"), False),
    **dict.fromkeys(("manifest_invalid", "manifest_too_large", "schema1_unsupported", "type_refused"), False),
    **dict.fromkeys(("digest_mismatch", "size_mismatch", "tag_immutable", "quota", "protocol"), False),
    **dict.fromkeys(("cancelled", "limit_exceeded", "internal", "archive_invalid"), False),
    **dict.fromkeys(("upload_session_lost", "rate_limited", "throttled", "timeout", "unavailable"), True),
}


def test_the_codes_of_registries_and_their_verdicts_are_a_promise() -> None:
    """Exactly these: a new one, or another verdict, is a change that other systems must hear of."""
    assert {code: CODES[code].retry for code in VERDICTS} == VERDICTS
    transfers = {cls.code for cls in classes(errors.TransferError)} - {"transfer"}
    elsewhere = {"invalid_reference", "unsupported_digest", "cancelled", "internal"}
    assert transfers == set(VERDICTS) - elsewhere


def test_one_error_may_know_better_than_its_class() -> None:
    """A host name that nobody ever resolved is no outage; the verdict travels with the error."""
    error = errors.Unavailable("no such host", retry=False)
    assert error.retry is False
    assert errors.Unavailable("down").retry is True
    assert pickle.loads(pickle.dumps(error)).retry is False
    assert from_dict(error.to_dict()).retry is False
    assert from_dict({"code": "unavailable", "message": "old record"}).retry is True
