"""A process that dies at a call of its choice, as far as its ports can tell.

Every call that a process makes to the ledger, the store or a registry goes over its `Wire`, which counts them
and can die at any one: just before it, or after it had its effect and before the answer arrived. A dead wire
lets nothing through: the `finally` and `with` blocks through which a killed interpreter would never have come
have no effect either. Calls are counted by thread, because only within one thread is their order fixed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

MAIN, BESIDE = "main", "beside"


class Killed(BaseException):
    """The process died here; nothing but the test catches it."""


class Moment(NamedTuple):
    """A call of one thread by its number from 1, and the side of it."""

    thread: str
    number: int
    after: bool


class Wire:
    """See the module text. `die` is when; `meanwhile` runs before the call of that number of the main thread;
    `watch` sees every call of the main thread after it had its effect."""

    def __init__(
        self,
        die: Moment | None = None,
        meanwhile: Mapping[int, Callable[[], None]] | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.calls: list[tuple[str, int, str]] = []  #: thread, number, name
        self.dead = False
        self._die = die
        self._meanwhile = dict(meanwhile or {})
        self._watch = watch
        self._counts: Counter[str] = Counter()
        self._main = threading.current_thread()
        self._lock = threading.Lock()

    def moments(self) -> list[Moment]:
        """Both sides of every call that was made. Dying after a call took effect and dying before the next
        one of that thread are the same to the rest of the world, so only the last one has an `after`."""
        before = [Moment(thread, number, after=False) for thread, number, _ in self.calls]
        return before + [Moment(thread, number, after=True) for thread, number in self._counts.items()]

    def name(self, moment: Moment) -> str:
        """The call in words."""
        found = [name for *where, name in self.calls if where == [moment.thread, moment.number]]
        return f"{'after' if moment.after else 'before'} {''.join(found)}"

    def send(self, name: str, effect: Callable[[], T]) -> T:
        """One call."""
        thread = MAIN if threading.current_thread() is self._main else BESIDE
        number = self._begin(thread, name)
        if thread == MAIN and number in self._meanwhile:
            self._meanwhile.pop(number)()
        self._live_until(Moment(thread, number, after=False))
        answer = effect()
        self._live_until(Moment(thread, number, after=True))
        if thread == MAIN:
            self._watch()
        return answer

    def _begin(self, thread: str, name: str) -> int:
        with self._lock:
            if self.dead:
                raise Killed("dead already")
            self._counts[thread] += 1
            self.calls.append((thread, self._counts[thread], name))
            return self._counts[thread]

    def _live_until(self, moment: Moment) -> None:
        with self._lock:
            self.dead = self.dead or moment == self._die
            if self.dead:
                raise Killed(str(moment))


class Tapped:
    """A port whose calls go over a wire; what they return is tapped as well where it has calls of its own."""

    def __init__(self, wire: Wire, name: str, port: Any) -> None:
        self._wire = wire
        self._name = name
        self._port = port

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            what = " ".join([f"{self._name}.{name}", *(word for word in args if isinstance(word, str))])
            return self._answer(what, lambda: found(*args, **named))

        return call

    def _answer(self, name: str, effect: Callable[[], Any]) -> Any:
        if name.startswith("registries."):  # no request: the client itself is what is tapped
            return Tapped(self._wire, "registry", effect())
        answer = self._wire.send(name, lambda: _whole(effect()))
        return TappedBlock(self._wire, name, answer) if hasattr(answer, "__enter__") else answer


class TappedBlock:
    """What a port gives for a `with`: a blob to read, or a write into the store."""

    def __init__(self, wire: Wire, name: str, block: Any) -> None:
        self._wire = wire
        self._name = name
        self._block = block
        self._inside: Any = None

    def __enter__(self) -> TappedBlock:
        self._inside = self._wire.send(f"{self._name} begins", self._block.__enter__)
        return self

    def __exit__(self, *error: Any) -> None:
        if not self._wire.dead:
            self._wire.send(f"{self._name} ends", lambda: self._block.__exit__(*error))

    def __iter__(self) -> Iterator[Any]:
        chunks, end = iter(self._inside), object()
        while (chunk := self._wire.send(f"{self._name} reads", lambda: next(chunks, end))) is not end:
            yield chunk

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inside, name)
        if not callable(found):
            return found
        return lambda *args: self._wire.send(f"{self._name} {name}s", lambda: found(*args))


def _whole(answer: Any) -> Any:
    """A list that is read piece by piece, read at once."""
    return iter(list(answer)) if isinstance(answer, GeneratorType) else answer
