"""What a worker shows of a received message, and what it does with one that is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import InvalidTaskError

from distworker import names
from tasks import app
from tasks.base import SHOWN_LIMIT, MessageRequest


def received(body: Any, **headers: Any) -> MessageRequest:
    """A request made of this body, as the worker makes it."""
    message = SimpleNamespace(
        headers={"id": "1", "task": names.SUBMIT_JOB, **headers},
        body=body,
        payload=body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return MessageRequest(message, app=app, task=SimpleNamespace(ignore_result=True))


def test_secrets_that_a_stranger_put_into_a_request_are_not_shown() -> None:
    """Flower and the log show these texts."""
    payload = {"password": "hunter2", "source": "https://me:hunter3@a.example/x"}

    request = received(([], payload, {}), argsrepr="()", kwargsrepr=repr(payload))

    assert "hunter" not in request.kwargsrepr + str(request.info(safe=True)) + str(
        request.request_dict["kwargsrepr"]
    )
    assert "a.example/x" in request.kwargsrepr


def test_a_login_where_a_credentials_id_belongs_is_not_shown() -> None:
    """The field's name invites it, and no pattern tells an id from a password."""
    payload = {"v": 1, "source_credential": "robot:hunter 2!", "destination_credential": "it's hunter"}
    assert "hunter" not in received(([], payload, {}), argsrepr="()", kwargsrepr=repr(payload)).kwargsrepr


def test_the_sentence_of_a_step_is_shown_as_it_is() -> None:
    """It names host, repository and digest; none of that looks like a secret."""
    sentence = "download 3.1 MB sha256:ab12cd34ef56 from hub.example/app"

    assert received(([], {}, {}), argsrepr=sentence).argsrepr == sentence


def test_a_huge_argument_text_is_cut() -> None:
    """A job of 100,000 pairs must not travel through the events of every worker."""
    assert len(received(([], {}, {}), kwargsrepr="x" * 10_000).kwargsrepr) == SHOWN_LIMIT


@pytest.mark.parametrize("body", [[], [1], {"a": 1}, "text", None, 7])
def test_a_body_that_is_no_task_message_is_dropped_by_celery(body: Any) -> None:
    """Any other exception here would end the worker."""
    with pytest.raises(InvalidTaskError):
        received(body)
