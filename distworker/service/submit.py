"""Sends Celery messages by task name; needs no task module of ours, only the broker's URL.

A message says "look at step S" and nothing else: `{"v": 1, "step": id}`, with the sentence an operator reads
in Flower's argument column. Losing or doubling one only delays work (the ledger re-sends), so publishing is
bounded in time instead of insisting, and a broker that is away is a `StateUnavailable` for the caller to wait
out. Celery is imported when the first producer is made: the local mode never pays for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from distworker import names
from distworker.errors import StateUnavailable
from distworker.service.broker import Broker
from distworker.state.base import Admitted

if TYPE_CHECKING:
    from celery import Celery

#: Step kind → task name and queue. Control work has its own queue: large layers never delay it.
ROUTES: Final[Mapping[str, tuple[str, str]]] = {
    names.PUBLISH: (names.PUBLISH_IMAGE, names.QUEUE_CONTROL),
    names.UPLOAD: (names.UPLOAD_LAYER, names.QUEUE_LAYERS),
    names.DOWNLOAD: (names.DOWNLOAD_LAYER, names.QUEUE_LAYERS),
    names.PLAN: (names.PLAN_IMAGE, names.QUEUE_CONTROL),
    names.EXPAND: (names.EXPAND_JOB, names.QUEUE_CONTROL),
}

CONNECT_SECONDS: Final = 4.0


class Producer:
    """Puts step messages on the broker. Safe to use from several threads; make it after forking."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @classmethod
    def connect(cls, broker: Broker) -> Producer:
        """A producer of its own for the workers' broker; nothing is sent or connected yet."""
        from celery import Celery  # noqa: PLC0415 - see the module text

        app = Celery("distworker-producer", broker=broker.url, set_as_current=False)
        app.conf.update(
            broker_transport_options=dict(broker.options),
            broker_use_ssl=broker.tls,
            broker_connection_timeout=CONNECT_SECONDS,
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
        )
        return cls(app)

    def __call__(self, admitted: Sequence[Admitted]) -> None:
        """Send each admitted step to the task of its kind.

        Raises:
            StateUnavailable: the broker does not take messages.
        """
        with self._guarded():
            for step in admitted:
                self._send(step)

    def ring(self, sweep: str) -> None:
        """Send a sweep's message; raises StateUnavailable as sending steps does."""
        with self._guarded():
            self._app.send_task(
                names.SWEEP,
                kwargs={"v": names.VERSION, "sweep": sweep},
                queue=names.QUEUE_CONTROL,
                argsrepr=f"sweep {sweep}",
                kwargsrepr=sweep,
                ignore_result=True,
                retry=False,
            )

    def pass_on(self, request: Mapping[str, Any], version: int) -> None:
        """Send a job request to the workers of that version; raises StateUnavailable as sending steps
        does."""
        with self._guarded():
            self._app.send_task(
                names.SUBMIT_JOB,
                kwargs=dict(request),
                queue=names.queue_of(version),
                argsrepr=f"a job request of version {version}",
                kwargsrepr="",
                ignore_result=True,
                retry=False,
            )

    def ping(self) -> str:
        """Connect to the broker; returns its masked address. Raises StateUnavailable when it does not
        answer."""
        with self._guarded(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=CONNECT_SECONDS)
            return str(connection.as_uri())

    def close(self) -> None:
        """Close pooled connections."""
        self._app.close()

    def _send(self, step: Admitted) -> None:
        task, queue = ROUTES[names.kind_of(step.id)]
        self._app.send_task(
            task,
            kwargs={"v": names.VERSION, "step": step.id},
            queue=queue,
            argsrepr=step.text,
            kwargsrepr=step.id,
            ignore_result=True,
            retry=False,
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        from kombu.exceptions import KombuError  # noqa: PLC0415 - see the module text

        transport = self._app.connection_for_write()
        faults = (KombuError, OSError, *transport.connection_errors, *transport.channel_errors)
        try:
            yield
        except faults as error:
            kind = type(error).__name__
            raise StateUnavailable(
                f"the broker does not take messages ({kind}); check broker_url and that it runs",
                phase="enqueue",
            ) from None
