"""Celery's settings: what the lab found must stay as it is, on both brokers."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery
from celery.app.utils import Settings

from distworker import names
from distworker.errors import StateUnavailable
from distworker.service.broker import RETRY_OPTIONS, broker_of
from distworker.service.submit import ROUTES, Producer
from distworker.state.address import Access
from distworker.state.base import Admitted
from tasks.app import _defaults, settings
from tasks.conf import celery_settings


def told(url: str = "redis://h/0", slots: int = 4, access: Access | None = None) -> dict[str, Any]:
    """What Celery is told of a broker."""
    return celery_settings(broker_of(url, "dw:", access), slots)


def test_messages_are_acknowledged_early_and_never_hoarded() -> None:
    """Late acks double running steps at each dropped connection; prefetched messages wait behind long
    layers."""
    settings = told()

    assert settings["task_acks_late"] is False
    assert settings["worker_disable_prefetch"] is True
    assert settings["worker_prefetch_multiplier"] == 1


def test_a_broker_that_refuses_commands_does_not_end_the_worker() -> None:
    """A read-only, full or unsaved Redis answers with errors that Celery takes for bugs by default."""
    assert told()["broker_channel_error_retry"] is True


def test_nothing_is_kept_in_a_result_backend() -> None:
    """The ledger has the results."""
    settings = told()

    assert settings["task_ignore_result"] is True
    assert settings["result_backend"] is None


def test_only_json_is_read() -> None:
    """A pickle in a queue would be code."""
    assert told()["accept_content"] == ["json"]


def test_a_worker_started_plainly_uses_threads() -> None:
    """`celery -A tasks worker` without `--pool`."""
    assert told(slots=3)["worker_pool"] == "threads"


@pytest.mark.parametrize(
    "url", ["redis://h/0", "rediss://h/0", "sentinel://h/0?master=m", "redis+socket:///run/redis"]
)
def test_redis_gets_its_prefix_and_its_timeouts(url: str) -> None:
    """Without a socket timeout a publish into a dead connection holds its thread for ever."""
    options = told(url)["broker_transport_options"]

    assert options["global_keyprefix"] == "dw:"
    assert options["socket_timeout"] > 0


@pytest.mark.parametrize("url", ["rediss://h/0", "sentinels://h/0?master=m"])
def test_tls_to_the_broker_is_always_checked(url: str) -> None:
    """Left alone, kombu takes any certificate."""
    tls = told(url, access=Access(ca_file="/ca.pem", client_cert="/own.pem"))["broker_use_ssl"]

    assert (tls["ssl_cert_reqs"], tls["ssl_check_hostname"]) == ("required", True)
    assert tls["ssl_ca_certs"] == "/ca.pem"
    assert (tls["ssl_certfile"], tls["ssl_keyfile"]) == ("/own.pem", "/own.pem")
    assert told("redis://h/0")["broker_use_ssl"] is None


def test_a_rabbitmqs_certificate_must_be_for_its_name() -> None:
    """Left alone, py-amqp takes anybody's good certificate."""
    tls = told("amqps://guest@h//")["broker_use_ssl"]

    assert tls["cert_reqs"] is ssl.CERT_REQUIRED
    assert tls["server_hostname"] is None, "kombu puts the host of the URL there"
    assert told("amqp://guest@h//")["broker_use_ssl"] is None


def test_sentinels_are_told_in_kombus_way_and_their_login_is_masked() -> None:
    """One URL each with the login of the data servers; Flower and `inspect conf` show none of it."""
    access = Access(sentinel_user="watch", sentinel_password="s3ntinel")
    made = told("sentinel://u:p%40w@a:1,b/2?master=prime", access=access)

    assert made["broker_url"] == "sentinel://u:p%40w@a:1/2;sentinel://u:p%40w@b:26379/2"
    options = made["broker_transport_options"]
    assert options["master_name"] == "prime"
    assert options["sentinel_kwargs"]["username"] == "watch"
    assert options["sentinel_kwargs"]["password"] == "s3ntinel"
    app = Celery("test", set_as_current=False)
    app.conf.update(made)
    shown = str(app.conf.humanize(with_defaults=False)) + str(app.conf.table(with_defaults=False))
    assert isinstance(app.conf, Settings)
    assert "s3ntinel" not in shown
    assert "p%40w" not in shown
    assert "p@w" not in shown


def test_rabbitmq_gets_no_option_of_redis() -> None:
    """Its transport refuses what it does not know, and has virtual hosts in the prefix's place."""
    assert told("amqp://guest@h//")["worker_disable_prefetch"] is False
    options = told("amqp://guest@h//")["broker_transport_options"]
    assert options.keys() - RETRY_OPTIONS.keys() == {"confirm_publish"}


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"])
def test_a_publish_to_a_broker_that_refuses_is_not_tried_for_long(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A step's slot is not for waiting: one quick second try, then the ledger's own timer has it."""
    slept: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", slept.append)
    app = Celery("test", set_as_current=False)
    app.conf.update(told(url))

    with pytest.raises(StateUnavailable):
        Producer(app)([Admitted("p:J-1", "plan")])

    assert sum(slept) < 1


def test_every_step_task_has_the_queue_that_producers_send_it_to() -> None:
    """Two maps of queues would drift apart."""
    routes = told()["task_routes"]

    assert {task: {"queue": queue} for task, queue in ROUTES.values()}.items() <= routes.items()
    assert names.SUBMIT_JOB in routes


def test_a_worker_serves_each_queue_by_its_own_route() -> None:
    """Queues that share an exchange and a key would each get every message."""
    queues = told()["task_queues"]

    assert {queue.name for queue in queues} == {names.QUEUE_CONTROL, names.QUEUE_LAYERS, "distworker.v1"}
    assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == len(queues)


def test_settings_come_from_the_operator_when_celery_first_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The application object itself reads nothing at import."""
    settings.cache_clear()
    monkeypatch.setenv("DISTWORKER_BROKER_URL", "redis://:hunter2@broker.example/5")
    monkeypatch.setenv("DISTWORKER_SLOTS", "7")
    try:
        defaults = _defaults()
    finally:
        settings.cache_clear()

    assert defaults["broker_url"] == "redis://:hunter2@broker.example/5"
    assert defaults["worker_concurrency"] == 7


def test_a_wrong_setting_ends_the_worker_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`celery -A tasks worker` shows where the mistake is, and no traceback."""
    settings.cache_clear()
    monkeypatch.setenv("DISTWORKER_SLOTS", "many")
    with pytest.raises(SystemExit) as ended:
        settings()
    assert ended.value.code == 2
    assert "DISTWORKER_SLOTS" in capsys.readouterr().err
    settings.cache_clear()
