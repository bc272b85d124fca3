"""Keys: every one is spelled as the layout says, nothing from outside becomes a path, and no two names
meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.blobstore import keys
from distworker.digest import Digest
from distworker.errors import InvalidRequest

HEX = "ab" * 32
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


def test_the_layout_is_as_documented() -> None:
    """The keys that other tools may read."""
    digest = Digest.parse(f"sha256:{HEX}")
    assert keys.blob_key("default", digest) == f"default/blobs/sha256/{HEX}"
    assert keys.blobs_prefix("default") == "default/blobs/"
    assert (
        keys.ref_key("default", "hub.example:5000", "library/alpine", "3.20")
        == "default/refs/hub.example%3A5000/library%2Falpine/tags/3.20"
    )
    assert keys.job_key("default", "0f3a", "list-00000.jsonl") == "default/jobs/0f3a/list-00000.jsonl"
    assert keys.staging_prefix("default", "c1") == "default/staging/c1/"


def test_a_long_digest_has_its_own_folder() -> None:
    """sha512 blobs do not hide among the sha256 ones."""
    assert keys.blob_key("t", Digest.of(b"", "sha512")).startswith("t/blobs/sha512/cf83e1357eef")


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256:../{HEX}", ""])
def test_only_a_checked_digest_makes_a_blob_key(text: str) -> None:
    """Plain text is refused even when it happens to be right."""
    with pytest.raises(InvalidRequest):
        keys.blob_key("default", text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "/a", ".hidden", "a b", "a\n", "x" * 129, "ü", "a%2Fb"]
)
def test_tenant_job_and_token_are_plain_names(text: str) -> None:
    """They are ours, so anything odd in them is a fault and not something to encode."""
    for make in (
        lambda: keys.blobs_prefix(text),
        lambda: keys.job_key("default", text, "request.json"),
        lambda: keys.job_key("default", "j1", text),
        lambda: keys.staging_prefix("default", text),
        lambda: keys.ref_key(text, "h", "r", "t"),
    ):
        with pytest.raises(InvalidRequest):
            make()


def test_an_empty_name_has_no_key() -> None:
    """Two slashes in a row mean nothing."""
    with pytest.raises(InvalidRequest):
        keys.ref_key("default", "h", "r", "")


@given(NAMES)
def test_any_name_comes_back_from_its_key(name: str) -> None:
    """Encoding loses nothing, and each segment is one that every file system and every S3 takes."""
    text = keys.encode(name)
    assert keys.decode(text) == name
    for segment in text.split("/"):
        assert 0 < len(segment) <= 255
        assert segment[0] != "."
        assert segment.isascii()


@given(NAMES, NAMES)
def test_two_names_never_share_a_key_nor_a_folder(one: str, two: str) -> None:
    """Neither key is the other's, nor a folder above it: a file system could not hold both."""
    if one != two:
        first, second = keys.encode(one), keys.encode(two)
        assert first != second
        assert not second.startswith(f"{first}/")
        assert not first.startswith(f"{second}/")


def test_a_name_that_begins_like_a_longer_one_is_no_folder_of_it() -> None:
    """The cut of long names leaves a mark that no whole name has."""
    long, short = "r" * 250, "r" * 200
    assert keys.encode(long) == "r" * 200 + "%/" + "r" * 50
    assert keys.encode(short) == "r" * 200


@pytest.mark.parametrize(
    ("host", "repository", "tag"),
    [("docker.io", "library/alpine", "3.20"), ("r.example:5000", "a/tags", "tags"), ("h.io", "x" * 250, "t")],
)
def test_a_ref_key_is_taken_apart_again(host: str, repository: str, tag: str) -> None:
    """Whoever lists the refs learns the names they stand for, also those cut into segments."""
    assert keys.split_ref(keys.ref_key("t", host, repository, tag)) == (host, repository, tag)


def test_what_is_no_ref_key_is_not_taken_for_one() -> None:
    """A stray object below the refs names no image."""
    assert keys.split_ref("t/refs/host/notes.txt") is None
