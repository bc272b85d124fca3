"""Hypothesis strategies that several tests share: valid references, and texts that are nearly valid.

Everything generated as valid is valid by the grammar of distribution/reference; `changed` takes valid texts
and changes, repeats, cuts or joins pieces of them, which is where parsers break.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from distworker.digest import Digest
from distworker.reference import Reference
from tests.fuzz.spoil import spoiled

label = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_port = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
_dotted = st.lists(label, min_size=2, max_size=4).map(".".join)
_address = st.one_of(st.ip_addresses(v=6).map("[{}]".format), st.ip_addresses(v=4).map(str))

#: `host[:port]` as a reference may name it; a single label only with a port, or as localhost.
hosts = st.one_of(
    st.just("localhost"),
    st.builds(str.__add__, st.one_of(_dotted, _address), _port),
    st.builds("{}:{}".format, label, st.integers(1, 65535)),
).filter(lambda text: text != "index.docker.io")
components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
#: Two parts at least, so that no `library/` is put in front.
repositories = st.lists(components, min_size=2, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
references = st.builds(
    Reference, hosts, repositories, st.one_of(st.just(""), tags), st.one_of(st.none(), digests)
)


def changed(corpus: Sequence[bytes], hints: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Bytes that grow out of `corpus` by a few changes; `hints` are pieces worth putting in."""
    return st.randoms(use_true_random=False).map(lambda luck: spoiled(luck, corpus, hints))
