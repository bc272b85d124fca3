"""Typed errors under test: raised exactly, with their fields, and without a secret in anything they show.

Everything secret in the tests is spelled with `SECRET` in it; a fixture watches over all of them.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import traceback
from collections.abc import Iterable, Iterator

import pytest

from distworker.errors import DistworkerError, from_dict

MARK = "SECRET"
#: The mark in a value; `…_SECRET_KEY` and `…_SECRET` are names of settings.
MARKED = re.compile(rf"(?<!_){MARK}(?!_)")


def texts(error: BaseException) -> Iterable[str]:
    """Every way in which an error may be shown or stored."""
    yield str(error)
    yield repr(error)
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = [error]
    for one in seen:
        yield f"{one!r} {one.args!r} {vars(one)!r}"
        seen += [
            cause for cause in (one.__cause__, one.__context__) if cause is not None and cause not in seen
        ]
    if isinstance(error, DistworkerError):
        yield repr(error.to_dict())
        yield pickle.dumps(error).decode("latin-1")


@contextlib.contextmanager
def fails(kind: type[DistworkerError], **fields: object) -> Iterator[list[DistworkerError]]:
    """The block raises exactly `kind` with these fields, naming where it happened and no secret."""
    caught: list[DistworkerError] = []
    with pytest.raises(kind) as info:
        yield caught
    error = info.value
    caught.append(error)
    assert type(error) is kind
    assert {name: error.fields.get(name) for name in fields} == fields
    assert error.fields["phase"]
    assert error.fields["registry"]
    assert MARK not in " ".join(texts(error))
    assert from_dict(error.to_dict()).to_dict() == error.to_dict()
