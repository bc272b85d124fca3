"""Messages are sent by task name, with nothing in them but the step."""

from __future__ import annotations

import socket

import pytest

from distworker import names
from distworker.errors import StateUnavailable
from distworker.service.broker import Broker, broker_of
from distworker.service.submit import ROUTES, Producer
from distworker.state.base import Admitted


def test_a_step_goes_to_the_task_and_queue_of_its_kind() -> None:
    """The message is `{v, step}`; the sentence for the operator stands in its header."""
    producer = Producer.connect(Broker("memory://test-submit", {}, None, on_redis=False))
    producer([Admitted("u:sha256:ab@hub.example", "upload sha256:ab (3 MB) to hub.example/x")])
    with producer._app.connection_for_read() as connection:
        message = connection.SimpleQueue(names.QUEUE_LAYERS).get(timeout=5)
    producer.close()
    assert message.headers["task"] == names.UPLOAD_LAYER
    assert message.headers["argsrepr"] == "upload sha256:ab (3 MB) to hub.example/x"
    assert message.headers["ignore_result"] is True
    assert message.payload[:2] == [[], {"v": 1, "step": "u:sha256:ab@hub.example"}]


def test_every_kind_of_step_has_a_route() -> None:
    """A kind without one would never run."""
    assert set(ROUTES) == set(names.KINDS)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_one_typed_error_without_its_password(scheme: str) -> None:
    """Publishing is bounded in time; the caller decides whether to wait."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        producer = Producer.connect(broker_of(f"{scheme}://user:hunter2@127.0.0.1:{port}/", "distworker:"))
        for attempt in (producer.ping, lambda: producer([Admitted("j:a", "expand a")])):
            with pytest.raises(StateUnavailable) as caught:
                attempt()
            assert "broker" in caught.value.message
            assert "hunter2" not in str(caught.value)
        producer.close()
