"""Celery's settings, each with its reason, as one function of plain values.

Messages here are pokes ("look at step S"): early acknowledged, never retried and never waited for by Celery,
because the ledger re-sends what nobody claimed. Nothing secret is put in besides the broker's URL, whose
password Celery masks in its banner, its logs and its answers to `inspect conf`.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

from distworker import names
from distworker.service.broker import Broker
from distworker.service.submit import ROUTES

#: Which queue each task goes to: control work has its own, so that long layers never delay it.
TASK_ROUTES: Final = {
    names.SUBMIT_JOB: {"queue": names.QUEUE_CONTROL},
    names.SWEEP: {"queue": names.QUEUE_CONTROL},
    **{task: {"queue": queue} for task, queue in ROUTES.values()},
}

#: Modules a worker loads; `tasks.signals` among them, so that it is connected before logging is set up.
INCLUDE: Final = ("tasks.start", "tasks.layers", "tasks.publish", "tasks.upkeep", "tasks.signals")

QUEUES: Final = (names.QUEUE_CONTROL, names.QUEUE_LAYERS, names.queue_of(names.VERSION))

#: Besides what every client of the broker is told (`service/broker.py`).
CONSUMER_OPTIONS: Final = {
    # Covers only what is popped and not yet acknowledged, an instant with early acks. The smallest value of
    # all clients wins, so every process of the fleet must carry the same.
    "visibility_timeout": 300,
    # Look for such messages every 5 s; kombu's own pace is every 100 s.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
}


def celery_settings(broker: Broker, concurrency: int) -> dict[str, Any]:
    """Everything Celery is told. `concurrency` is how many steps one worker process runs at a time."""
    consumer = CONSUMER_OPTIONS if broker.on_redis else {}
    return {
        "broker_url": broker.url,
        "broker_transport_options": {**broker.options, **consumer},
        "broker_use_ssl": broker.tls,
        # The broker may come up after the worker, and may be away for longer than 100 tries.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A Redis that answers "no" for a while (read-only after a failover, out of memory, cannot save) is
        # like one that is away; by default such an answer ends the worker.
        "broker_channel_error_retry": True,
        # RabbitMQ notices a lost host after two missed beats; Celery's default is two minutes.
        "broker_heartbeat": 20,
        # Every slot may publish what it made ready while the pump thread publishes too.
        "broker_pool_limit": concurrency + 2,
        # Only plain data travels; pickle from a queue would be code execution.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # Late acks run a step twice at every dropped connection, and a Redis restart then ends the worker.
        "task_acks_late": False,
        # Concerns late acks only; unset, each lost connection logs a warning about it.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # Results are in the ledger; a result backend would cost five commands a step and hold 22 keys an
        # image.
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        "task_default_queue": names.QUEUE_CONTROL,
        "task_routes": TASK_ROUTES,
        # What a worker serves unless `-Q` names others.
        "task_queues": [Queue(name, Exchange(name, "direct"), routing_key=name) for name in QUEUES],
        # Blobs spend their time in sockets and in hashing, which both release the interpreter lock.
        "worker_pool": "threads",
        "worker_concurrency": concurrency,
        # A worker takes a message when it has a free thread, not before; else long layers hold short steps.
        # Only Redis knows this; on RabbitMQ the multiplier keeps the hoard small.
        "worker_disable_prefetch": broker.on_redis,
        "worker_prefetch_multiplier": 1,
        # Flower shows tasks from events; they leave in batches (`tasks/events.py`).
        "worker_send_task_events": True,
        "worker_consumer": "tasks.consumer:PatientConsumer",
        # Producers need not announce: the worker tells of a message when it receives it.
        "task_send_sent_event": False,
        # Logging is `distworker.logs`, with its redaction; Celery must not put handlers beside it.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "include": INCLUDE,
        # When sweeps are due stands in Redis; beat keeps no file and may be killed anywhere.
        "beat_scheduler": "tasks.scheduler:TurnScheduler",
        # No countdown and no ETA are ever used, and times of day in events are UTC everywhere.
        "enable_utc": True,
        "timezone": "UTC",
    }
