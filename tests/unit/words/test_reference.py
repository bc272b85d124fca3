"""References: every vector of the distribution grammar, and properties that hold for any text."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distworker.digest import Digest
from distworker.errors import InvalidReference, UnsupportedDigest
from distworker.reference import Reference, needs_configuring, parse_host, parse_repository, parse_tag
from distworker.registry.profiles import canonical_host
from tests.strategies import changed, references


@dataclass(frozen=True)
class Vector:
    """A line of the table: a text, and what it is or why it is refused.

    `says`: the sentence of the error (None for a valid reference); `unsupported`: it is a digest of another
    algorithm; `cautions`: what a person is told of a valid one; `configured`: reached only where an operator
    named it; `key`: the host under which credentials and budgets are kept, where it is another.
    """

    number: str
    text: str
    host: str = ""
    repository: str = ""
    tag: str = ""
    digest: str | None = None
    version: str = ""
    says: str | None = None
    unsupported: bool = False
    cautions: tuple[str, ...] = ()
    configured: bool = False
    key: str = ""


H = "0123456789abcdef" * 4
H128 = H * 2
HUB = "docker.io"
DIGEST, LONG_DIGEST = f"sha256:{H}", f"sha512:{H128}"

VALID = [
    Vector("1", "alpine", HUB, "library/alpine", version="latest"),
    Vector("2", "alpine:3.20", HUB, "library/alpine", "3.20"),
    Vector("3", "library/alpine", HUB, "library/alpine", version="latest"),
    Vector("4", "docker.io/alpine", HUB, "library/alpine", version="latest"),
    Vector("5", "index.docker.io/alpine", HUB, "library/alpine", version="latest"),
    Vector(
        "6",
        "registry-1.docker.io/library/alpine",
        "registry-1.docker.io",
        "library/alpine",
        version="latest",
        key=HUB,
    ),
    Vector("7", "grafana/grafana:11.1.0", HUB, "grafana/grafana", "11.1.0"),
    Vector("8", "localhost/app", "localhost", "app", version="latest", configured=True),
    Vector("9", "localhost:5000/app:v1", "localhost:5000", "app", "v1", configured=True),
    Vector("10", "localhost:5000", HUB, "library/localhost", "5000", cautions=("localhost:5000/repository",)),
    Vector("11", "test.com:5000", HUB, "library/test.com", "5000", cautions=("test.com:5000/repository",)),
    Vector("12", "myhost/app", HUB, "myhost/app", version="latest"),
    Vector(
        "13",
        "registry.example.com:5000/team/app:1.0",
        "registry.example.com:5000",
        "team/app",
        "1.0",
    ),
    Vector("14", "192.168.1.1/repo", "192.168.1.1", "repo", version="latest"),
    Vector("15", "[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000", "repo", "tag"),
    Vector("16", "quay.io/a/b/c/d:tag", "quay.io", "a/b/c/d", "tag"),
    Vector("17", f"ghcr.io/org/app@{DIGEST}", "ghcr.io", "org/app", digest=DIGEST, version=DIGEST),
    Vector("18", f"ghcr.io/org/app:v1@{DIGEST}", "ghcr.io", "org/app", "v1", DIGEST, version=DIGEST),
    Vector(
        "19",
        f"registry.example.com/app@{LONG_DIGEST}",
        "registry.example.com",
        "app",
        digest=LONG_DIGEST,
        version=LONG_DIGEST,
    ),
    Vector("20", "xn--n3h.com/myimage", "xn--n3h.com", "myimage", version="latest"),
    Vector("21", "LOCALDOMAIN/app", "LOCALDOMAIN", "app", version="latest", configured=True),
    Vector("22", "a/b__c/d---e/f.g:_tag", HUB, "a/b__c/d---e/f.g", "_tag"),
    Vector("23", "host.example/" + 255 * "a", "host.example", 255 * "a", version="latest", cautions=("255",)),
    Vector("24", "alpine:" + 128 * "t", HUB, "library/alpine", 128 * "t"),
    Vector("25", f"docker.io/{H}", HUB, f"library/{H}", version="latest"),
    Vector("26", "alpine:Latest-RC.1", HUB, "library/alpine", "Latest-RC.1"),
    # A number is an address to the resolver: it leads to 127.0.0.1, where the address policy stops it.
    Vector("28", "2130706433:80/app", "2130706433:80", "app", version="latest", configured=True),
    Vector("index-team", "index.docker.io/team/app", HUB, "team/app", version="latest"),
    Vector("bare-ipv6", "[2001:db8::1]/repo", "[2001:db8::1]", "repo", version="latest"),
]

INVALID = [
    Vector("27", "registry.example.com:99999/app", says="between 1 and 65535"),
    Vector("29", "", says="empty"),
    Vector("30", "Alpine", says="must be lowercase"),
    Vector("31", "docker.io/library/Alpine", says="must be lowercase"),
    Vector("32", "https://docker.io/library/alpine", says="no scheme: leave out everything up to"),
    Vector("33", "alpine:", says="not a tag"),
    Vector("34", "alpine:" + 129 * "t", says="not a tag"),
    Vector("35", "alpine:.hidden", says="not starting with"),
    Vector("36", "alpine@sha256:abc", says="64 lower-case hex"),
    Vector("37", f"alpine@sha256:{H.upper()}", says="64 lower-case hex"),
    Vector("38", f"alpine@md5:{H[:32]}", says="use sha256 or sha512", unsupported=True),
    Vector("39a", "-alpine/x", says="not a repository name"),
    Vector("39b", "dock..er/x", says="not a registry host"),
    Vector("39c", "a___b/x", says="not a repository name"),
    Vector("39d", "a//b", says="not a repository name"),
    Vector("40a", "registry.example.com/../x", says="not a repository name"),
    Vector("40b", "../../etc/passwd", says="not a registry host"),
    Vector("41", H, says="64 hex digits are an image id"),
    Vector("42a", "[fe80::1%eth0]:5000/repo", says="not a registry host"),
    Vector("42b", "[2001:db8::1]", says="not a repository name"),
    Vector("43a", "alpine\n", says="not a repository name"),
    Vector("43b", "alpine ", says="not a repository name"),
    Vector("44", "alpine:t\u00e4g", says="not a tag"),
    Vector("45a", "registry.example.com/app?x=1", says="not a repository name"),
    Vector("45b", "registry.example.com/app#f", says="not a repository name"),
    Vector("46", "user:pw@registry.example.com/app", says="not a digest"),
    Vector("47", "registry.example.com/app:tag/extra", says="not a tag"),
    Vector("48", "host.example/" + 256 * "a", says="longer than 255"),
    Vector("49", "docker.io/", says="the repository name is missing"),
    Vector("two-digests", f"alpine@{DIGEST}@{DIGEST}", says="not a digest"),
    Vector("bad-ipv6", "[:::]/repo", says="not an IPv6 address"),
    Vector("space-first", " alpine", says="not a repository name"),
    Vector("newline-after-tag", "alpine:tag\n", says="not a tag"),
    Vector("arabic-digit", "alpine:\u0661", says="not a tag"),
    Vector("port-0", "registry.example.com:0/app", says="between 1 and 65535"),
    Vector("port-missing", "registry.example.com:/app", says="not a registry host"),
    Vector("endless", "a" * 100_000, says="too long"),
]


def test_every_vector_of_the_table_is_here() -> None:
    """1 to 49, none left out."""
    numbers = {int(digits[0]) for one in VALID + INVALID if (digits := re.findall(r"^[0-9]+", one.number))}
    assert numbers == set(range(1, 50))


@pytest.mark.parametrize("vector", VALID, ids=[f"vector{one.number}" for one in VALID])
def test_a_valid_reference_gives_its_parts(vector: Vector) -> None:
    """Host, repository, tag and digest, what would be fetched, and what a person is told."""
    reference = Reference.parse(vector.text)
    parts = (reference.host, reference.repository, reference.tag, reference.digest)
    assert parts == (vector.host, vector.repository, vector.tag, vector.digest)
    assert reference.with_default_tag().version == (vector.version or vector.tag)
    cautions = reference.cautions()
    assert len(cautions) == len(vector.cautions)
    assert all(part in said for part, said in zip(vector.cautions, cautions, strict=True))
    assert needs_configuring(reference.host) is vector.configured
    assert canonical_host(reference.host) == (vector.key or vector.host)


@pytest.mark.parametrize("vector", INVALID, ids=[f"vector{one.number}" for one in INVALID])
def test_an_invalid_reference_is_refused_with_its_reason(vector: Vector) -> None:
    """The sentence names what is wrong; the type is the one of the table."""
    kind = UnsupportedDigest if vector.unsupported else InvalidReference
    with pytest.raises(kind, match=re.escape(vector.says or "")) as caught:
        Reference.parse(vector.text)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@registry.example.com/app",
        "https://user:hunter2@registry.example.com/app",
        "hunter2 ",
        "registry.example.com/hunter2?x",
        "registry.example.com/app:hunter2/x",
        "me@hunter2:0123",
        "me@hunter2",
        f"me@sha256:hunter2{H}",
        "hunter2..x/y",
        "hunter2.x:99999/y",
        "hunter2-/x",
    ],
)
def test_a_refused_reference_is_not_repeated_in_the_message(text: str) -> None:
    """People paste passwords in front of hosts; the error must not carry them on."""
    with pytest.raises((InvalidReference, UnsupportedDigest)) as caught:
        Reference.parse(text)
    shown = "".join(traceback.format_exception(caught.value)).partition("distworker.errors.")[2]
    assert shown
    assert "hunter2" not in shown + str(caught.value.to_dict()) + repr(caught.value)


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
    assert Reference.parse("team/my.app:5").cautions() == ()
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


@given(references)
def test_any_reference_survives_being_written_and_read(reference: Reference) -> None:
    """parse(str(x)) == x."""
    assert Reference.parse(str(reference)) == reference


junk = st.one_of(
    st.text(),
    st.text(alphabet="aA0.:/@-_[]%\n é", max_size=40),
    changed([vector.text.encode() for vector in VALID], [b"@sha256:", b"/", b"[::1]:", b"://", b"\n"]).map(
        lambda raw: raw.decode("utf-8", "surrogateescape")
    ),
)


@given(junk)
@example(f"a@sha256:{H}")
@example("a" * 255)
@example("a@sha256:" + "\udcff" * 64)
def test_no_text_raises_anything_but_the_typed_errors(text: str) -> None:
    """Whatever is typed, it parses to something stable or is refused in words."""
    try:
        reference = Reference.parse(text)
    except (InvalidReference, UnsupportedDigest) as refusal:
        assert len(text) < 12 or text not in str(refusal.to_dict())
        return
    assert Reference.parse(str(reference)) == reference
    reference.cautions()


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.lists(st.text()), st.dates()
    )
)
def test_no_value_of_another_type_raises_anything_but_the_typed_error(value: object) -> None:
    """Bytes, numbers, lists: refused as bad text is, in every parser."""
    for parse in (Reference.parse, parse_host, parse_repository, parse_tag):
        with pytest.raises(InvalidReference):
            parse(value)  # type: ignore[arg-type]
