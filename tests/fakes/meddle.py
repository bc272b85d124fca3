"""Meddling with a fake server beyond its script: run code of the test's own at a certain request."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.registry_server import Answer, FakeServer, Seen

#: Looks at a request before the server does; an Answer replaces the server's.
Action = Callable[[Seen], Answer | None]


def meddle(server: FakeServer, method: str, part: str, *actions: Action | None) -> None:
    """The n-th request of `method` ("*": any) with `part` in path or query meets the n-th action, None lets
    it through; when they are used up the server is left alone.
    """
    own, waiting = server.handle, list(actions)

    def handle(request: Seen) -> Answer:
        if method in {"*", request.method} and part in f"{request.path}?{request.query}" and waiting:
            action = waiting.pop(0)
            answer = action(request) if action else None
            if answer is not None:
                return answer
        return own(request)

    server.handle = handle  # type: ignore[method-assign]
