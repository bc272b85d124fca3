"""Changes valid inputs a little, which is where parsers break, and makes what broke one small again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence


def spoiled(luck: random.Random, corpus: Sequence[bytes], hints: Sequence[bytes]) -> bytes:
    """One of `corpus` after up to six changes; pieces put in are `hints`, parts of others, or random."""
    text = luck.choice(corpus)
    for _ in range(luck.randrange(1, 7)):
        text = _changed(luck, text, _piece(luck, corpus, hints))
    return text


def _piece(luck: random.Random, corpus: Sequence[bytes], hints: Sequence[bytes]) -> bytes:
    kind = luck.randrange(4)
    if kind == 0 or not hints:
        return luck.randbytes(luck.randrange(1, 5))
    if kind == 1:
        other = luck.choice(corpus)
        start = luck.randrange(len(other) + 1)
        return other[start : start + luck.randrange(1, 40)]
    return luck.choice(hints)


def _changed(luck: random.Random, text: bytes, piece: bytes) -> bytes:
    at = luck.randrange(len(text) + 1)
    head, body, tail = text[:at], text[at : at + luck.randrange(1, 30)], text[at:]
    rest = tail[len(body) :]
    kind = luck.randrange(7)
    if kind == 0:
        return head + rest  # something is missing
    if kind == 1:
        return head  # the end is missing
    if kind == 2:
        return head + body * luck.choice((2, 3, 70)) + rest
    if kind == 3 and body:
        flipped = bytes([body[0] ^ (1 << luck.randrange(8))])
        return head + flipped + tail[1:]
    if kind == 4:
        return head + piece + rest
    return head + piece + tail


def smallest(data: bytes, breaks: Callable[[bytes], bool]) -> bytes:
    """What is left of `data` when every part that is not needed to break is taken out."""
    size = max(len(data) // 2, 1)
    while size:
        for shorter in _without(data, size):
            if breaks(shorter):
                data = shorter
                break
        else:
            size //= 2
    return data


def _without(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[:start] + data[start + size :]
