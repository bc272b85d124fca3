"""References: every vector of the distribution grammar, and properties that hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distworker.digest import Digest
from distworker.errors import InvalidReference, UnsupportedDigest
from distworker.reference import Reference, parse_host, parse_repository, parse_tag

H = "0123456789abcdef" * 4
H128 = H * 2
HUB = "docker.io"

VALID = [
    ("alpine", (HUB, "library/alpine", "", None)),
    ("alpine:3.20", (HUB, "library/alpine", "3.20", None)),
    ("library/alpine", (HUB, "library/alpine", "", None)),
    ("docker.io/alpine", (HUB, "library/alpine", "", None)),
    ("index.docker.io/alpine", (HUB, "library/alpine", "", None)),
    ("index.docker.io/team/app", (HUB, "team/app", "", None)),
    ("registry-1.docker.io/library/alpine", ("registry-1.docker.io", "library/alpine", "", None)),
    ("grafana/grafana:11.1.0", (HUB, "grafana/grafana", "11.1.0", None)),
    ("localhost/app", ("localhost", "app", "", None)),
    ("localhost:5000/app:v1", ("localhost:5000", "app", "v1", None)),
    ("localhost:5000", (HUB, "library/localhost", "5000", None)),
    ("test.com:5000", (HUB, "library/test.com", "5000", None)),
    ("myhost/app", (HUB, "myhost/app", "", None)),
    ("registry.example.com:5000/team/app:1.0", ("registry.example.com:5000", "team/app", "1.0", None)),
    ("192.168.1.1/repo", ("192.168.1.1", "repo", "", None)),
    ("[2001:db8::1]:5000/repo:tag", ("[2001:db8::1]:5000", "repo", "tag", None)),
    ("[2001:db8::1]/repo", ("[2001:db8::1]", "repo", "", None)),
    ("quay.io/a/b/c/d:tag", ("quay.io", "a/b/c/d", "tag", None)),
    (f"ghcr.io/org/app@sha256:{H}", ("ghcr.io", "org/app", "", f"sha256:{H}")),
    (f"ghcr.io/org/app:v1@sha256:{H}", ("ghcr.io", "org/app", "v1", f"sha256:{H}")),
    (f"registry.example.com/app@sha512:{H128}", ("registry.example.com", "app", "", f"sha512:{H128}")),
    ("xn--n3h.com/myimage", ("xn--n3h.com", "myimage", "", None)),
    ("LOCALDOMAIN/app", ("LOCALDOMAIN", "app", "", None)),
    ("a/b__c/d---e/f.g:_tag", (HUB, "a/b__c/d---e/f.g", "_tag", None)),
    ("host.example/" + 255 * "a", ("host.example", 255 * "a", "", None)),
    ("alpine:" + 128 * "t", (HUB, "library/alpine", 128 * "t", None)),
    (f"docker.io/{H}", (HUB, f"library/{H}", "", None)),
    ("alpine:Latest-RC.1", (HUB, "library/alpine", "Latest-RC.1", None)),
    ("2130706433:80/app", ("2130706433:80", "app", "", None)),
]

INVALID = [
    ("", "empty"),
    ("Alpine", "lowercase"),
    ("docker.io/library/Alpine", "lowercase"),
    ("https://docker.io/library/alpine", "scheme"),
    ("alpine:", "tag"),
    ("alpine:" + 129 * "t", "tag"),
    ("alpine:.hidden", "tag"),
    ("alpine@sha256:abc", "digest"),
    (f"alpine@sha256:{H.upper()}", "digest"),
    (f"alpine@sha256:{H}@sha256:{H}", "digest"),
    ("-alpine/x", "repository"),
    ("dock..er/x", "host"),
    ("a___b/x", "repository"),
    ("a//b", "repository"),
    ("registry.example.com/../x", "repository"),
    ("../../etc/passwd", "host"),
    (H, "image id"),
    ("[fe80::1%eth0]:5000/repo", "host"),
    ("[2001:db8::1]", "repository"),
    ("[:::]/repo", "IPv6"),
    ("alpine\n", "repository"),
    ("alpine ", "repository"),
    (" alpine", "repository"),
    ("alpine:tag\n", "tag"),
    ("alpine:täg", "tag"),
    ("alpine:\u0661", "tag"),
    ("registry.example.com/app?x=1", "repository"),
    ("registry.example.com/app#f", "repository"),
    ("user:pw@registry.example.com/app", "digest"),
    ("registry.example.com/app:tag/extra", "tag"),
    ("host.example/" + 256 * "a", "longer"),
    ("docker.io/", "missing"),
    ("registry.example.com:99999/app", "65535"),
    ("registry.example.com:0/app", "65535"),
    ("registry.example.com:/app", "host"),
    ("a" * 100_000, "too long"),
]


@pytest.mark.parametrize(("text", "outcome"), VALID, ids=[text[:40] for text, _ in VALID])
def test_a_valid_reference_gives_its_parts(text: str, outcome: tuple[str, str, str, str | None]) -> None:
    """Each good vector of the grammar parses to its host, repository, tag and digest."""
    reference = Reference.parse(text)
    assert (reference.host, reference.repository, reference.tag, reference.digest) == outcome


@pytest.mark.parametrize(("text", "reason"), INVALID, ids=[text[:40] or "empty" for text, _ in INVALID])
def test_an_invalid_reference_is_refused_with_its_reason(text: str, reason: str) -> None:
    """Each bad vector raises InvalidReference and the sentence names what is wrong."""
    with pytest.raises(InvalidReference, match=reason):
        Reference.parse(text)


def test_an_unknown_digest_algorithm_is_unsupported_rather_than_malformed() -> None:
    """md5 is a digest, only none we compute."""
    with pytest.raises(UnsupportedDigest):
        Reference.parse(f"alpine@md5:{H[:32]}")


def test_a_refused_reference_is_not_repeated_in_the_message() -> None:
    """People paste passwords in front of hosts; the error must not carry them on."""
    for text in ("user:hunter2@registry.example.com/app", "https://user:hunter2@registry.example.com/app"):
        with pytest.raises(InvalidReference) as caught:
            Reference.parse(text)
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in str(caught.value.to_dict())


def test_latest_is_only_implied_when_asked_for() -> None:
    """The tag stays empty until with_default_tag, and a tag or digest is never replaced."""
    assert Reference.parse("alpine").tag == ""
    assert Reference.parse("alpine").with_default_tag().tag == "latest"
    assert Reference.parse("alpine:3").with_default_tag().tag == "3"
    assert Reference.parse(f"alpine@sha256:{H}").with_default_tag().tag == ""


def test_the_digest_decides_and_the_tag_is_kept() -> None:
    """With both written, version is the digest while the tag stays readable."""
    both = Reference.parse(f"ghcr.io/org/app:v1@sha256:{H}")
    assert both.version == f"sha256:{H}"
    assert both.tag == "v1"
    assert both.name == "ghcr.io/org/app"
    assert Reference.parse("ghcr.io/org/app:v1").version == "v1"
    assert Reference.parse("ghcr.io/org/app").version == ""


def test_tag_and_digest_can_be_changed_and_taken_away() -> None:
    """with_tag and with_digest give a new reference and check what they are given."""
    pinned = Reference.parse("ghcr.io/org/app:v1").with_digest(Digest.of(b"x"))
    assert pinned.with_tag("v2").tag == "v2"
    assert pinned.with_tag("").tag == ""
    assert str(pinned.with_digest(None)) == "ghcr.io/org/app:v1"
    with pytest.raises(InvalidReference):
        pinned.with_tag("no/slash")


def test_a_host_mistaken_for_a_name_is_pointed_out() -> None:
    """localhost:5000 is the Hub image localhost with tag 5000; the person hears of it."""
    assert "localhost:5000/repository" in Reference.parse("localhost:5000").cautions()[0]
    assert Reference.parse("test.com:5000").cautions()
    assert Reference.parse("alpine:3").cautions() == ()
    assert Reference.parse("localhost:5000/app:1").cautions() == ()


def test_a_long_name_is_accepted_with_a_caution() -> None:
    """255 characters of path are legal, but some registries count the host too."""
    assert "255" in Reference.parse("host.example/" + 255 * "a").cautions()[0]


@pytest.mark.parametrize(
    "text", ["myhost", "", "a b.c", "host.example/", "host.example:70000", "ho_st.example"]
)
def test_a_text_that_no_reference_could_have_as_host_is_refused(text: str) -> None:
    """parse_host takes only what a reference could name."""
    with pytest.raises(InvalidReference):
        parse_host(text)


def test_hosts_of_the_hub_have_one_name() -> None:
    """index.docker.io is docker.io."""
    assert parse_host("index.docker.io") == "docker.io"
    assert parse_host("Registry.Example.com:443") == "Registry.Example.com:443"


@pytest.mark.parametrize("value", [None, 5, b"alpine", ["alpine"]])
def test_what_is_not_text_is_refused_like_bad_text(value: object) -> None:
    """Job files hold numbers where names belong; that is a typed error, not a crash."""
    for parse in (Reference.parse, parse_host, parse_repository, parse_tag):
        with pytest.raises(InvalidReference):
            parse(value)  # type: ignore[arg-type]


label = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
host = st.one_of(
    st.just("localhost"),
    st.builds(
        lambda parts, port: ".".join(parts) + port, st.lists(label, min_size=2, max_size=4), st.just("")
    ),
    st.builds(lambda name, port: f"{name}:{port}", label, st.integers(1, 65535)),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
).filter(lambda text: text != "index.docker.io")
component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
repository = st.lists(component, min_size=2, max_size=4).map("/".join)
tag = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True))
digest = st.one_of(
    st.none(), st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
)


@given(st.builds(Reference, host, repository, tag, digest))
def test_any_reference_survives_being_written_and_read(reference: Reference) -> None:
    """parse(str(x)) == x."""
    assert Reference.parse(str(reference)) == reference


@given(st.one_of(st.text(), st.text(alphabet="aA0.:/@-_[]%\n é", max_size=40)))
@example(f"a@sha256:{H}")
@example("a" * 255)
def test_no_text_raises_anything_but_the_typed_errors(text: str) -> None:
    """Whatever is typed, it parses to something stable or is refused in words."""
    try:
        reference = Reference.parse(text)
    except (InvalidReference, UnsupportedDigest):
        return
    assert Reference.parse(str(reference)) == reference
