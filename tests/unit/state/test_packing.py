"""Bodies and ways as records keep them: the same again, and small."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.state.packing import PLAIN_MAX, merged, packed, short_via, unpacked

DIGEST = "sha256:" + "0123456789abcdef" * 4
UPLOAD = f"u:{DIGEST}@registry.example.com"
BODY = {
    "v": 1,
    "digest": DIGEST,
    "size": 31_415_926,
    "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
    "source": {"kind": "registry", "host": "a.example", "repository": "team/app", "credential": "hub"},
    "tenant": "default",
    "priority": 5,
}


def text_of(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    body=st.dictionaries(st.text(max_size=12), json_values, max_size=6),
    step=st.sampled_from([UPLOAD, "m:J-1"]),
)
def test_a_body_comes_back_as_it_was(body: dict[str, Any], step: str) -> None:
    """Whatever is in it: control characters, digests, letters of any script."""
    body = {**body, "digest": DIGEST, "more": "\x01 \u2028 é"}
    assert merged([packed(text_of(body), step)], step) == body


def test_a_usual_body_takes_a_fraction_of_its_text() -> None:
    """The digest is in the step's id already."""
    short = packed(text_of(BODY), UPLOAD)
    assert len(short) * 3 < len(text_of(BODY))
    assert short.isascii()
    assert "012345" not in short


def test_another_digest_than_the_step_s_own_is_kept() -> None:
    """A root's body may name many."""
    other = DIGEST.replace("0123", "ffff")
    body = {**BODY, "digest": other}
    assert merged([packed(text_of(body), UPLOAD)], UPLOAD) == body
    assert merged([packed(text_of(body), "m:J-1")], "m:J-1") == body


def test_short_and_plain_bodies_are_read_as_they_are() -> None:
    """So a person sees what a small record says."""
    assert packed('{"v":1}', "j:J") == '{"v":1}' == unpacked('{"v":1}', "j:J")
    plain = text_of(BODY)
    assert len(plain) > PLAIN_MAX
    assert merged([plain, '{"size":1}'], UPLOAD) == {**BODY, "size": 1}


@pytest.mark.parametrize("via", ["", "registry:src->dst", "v" * 20])
def test_a_short_way_is_kept_and_a_long_one_hashed(via: str) -> None:
    """It is compared, never read."""
    assert short_via(via) == via
    long = f"registry:{via}" + "x" * 50
    assert len(short_via(long)) == 12
    assert short_via(long) == short_via(long)
    assert short_via(long) != short_via(long + "y")
