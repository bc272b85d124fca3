"""What costs an attempt and what does not, and whose slot a pause is for."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from distworker import names
from distworker.digest import Digest
from distworker.errors import (
    BlobUnknown,
    DistworkerError,
    Draining,
    InternalError,
    NewerVersion,
    RateLimited,
    RequestTimeout,
    StateUnavailable,
    StoreFull,
    StoreUnavailable,
    Throttled,
    Unavailable,
)
from distworker.plan.build import download_spec, image_steps, upload_spec
from distworker.plan.model import STORE, BlobMove, ImageTransfer, Place
from distworker.service.endings import SILENCES, Fail, GiveBack, ending
from distworker.state.base import Claim, StepSpec

HUB, MIRROR = (
    Place("registry", "hub.example", "library/app", "1"),
    Place("registry", "mirror.example", "app", "1"),
)
DIGEST = Digest.parse("sha256:" + "ab" * 32)
MOVE = BlobMove("j", "default", HUB, DIGEST, 5, destination=MIRROR)
UPLOAD = upload_spec(MOVE, MIRROR, download=False)
DOWNLOAD = download_spec(MOVE)


def claimed(spec: StepSpec, attempt: int = 1) -> Claim:
    return Claim(spec.id, "token", spec.job, spec.body, attempt)


def told(error: DistworkerError, spec: StepSpec = UPLOAD, **more: Any) -> GiveBack | Fail:
    return ending(error, claimed(spec, more.pop("attempt", 1)), **more)


@pytest.mark.parametrize(
    "error",
    [
        StateUnavailable("redis is away"),
        StoreUnavailable("the store answers 503"),
        StoreUnavailable("the access key is not known there", passing=False),
        StoreFull("no room"),
        NewerVersion("of a newer release"),
    ],
)
def test_our_own_trouble_costs_no_attempt_and_is_told(error: DistworkerError) -> None:
    """The ledger keeps the reason, shows it, and ends the wait after its patience."""
    end = told(error, attempt=99)
    assert isinstance(end, GiveBack)
    assert end.trouble
    assert end.delay > 0
    assert end.pause == "", "the registries are well"


@pytest.mark.parametrize("error", [StoreFull("no room"), StoreUnavailable("no bucket", passing=False)])
def test_what_people_must_mend_is_said_loudly_and_asked_more_rarely(error: DistworkerError) -> None:
    """An operator sees it in the log of errors."""
    end, passing = told(error), told(StoreUnavailable("503"))
    assert isinstance(end, GiveBack)
    assert isinstance(passing, GiveBack)
    assert (end.level, passing.level) == (logging.ERROR, logging.WARNING)
    assert end.delay > passing.delay


def test_whoever_copies_from_this_machine_is_told_at_once() -> None:
    """A person who waits for the command can mend the folder; a day of waiting helps nobody."""
    for error in (StoreFull("no room"), StoreUnavailable("no folder")):
        assert isinstance(told(error, patient=False), Fail)


def test_a_worker_that_stops_gives_back_without_a_reason() -> None:
    """Rolling restarts are no trouble and never use up the ledger's patience."""
    assert told(Draining("stopping")) == GiveBack(0.0, "", False, logging.INFO)


@pytest.mark.parametrize(
    ("error", "spec", "pause"),
    [
        (
            RateLimited("pull limit", registry="hub.example", registry_code="TOOMANYREQUESTS"),
            DOWNLOAD,
            "kind",
        ),
        (Throttled("slow down", registry="hub.example", registry_code="TOOMANYREQUESTS"), DOWNLOAD, "kind"),
        (Throttled("Too Many Requests", registry="hub.example"), DOWNLOAD, "origin"),
        (Throttled("Too Many Requests", registry="hub.example"), UPLOAD, ""),
        (RateLimited("pull limit", registry="hub.example"), UPLOAD, ""),
        (Throttled("Too Many Requests", registry="mirror.example"), UPLOAD, "origin"),
    ],
)
def test_a_429_pauses_the_end_that_gave_it(error: DistworkerError, spec: StepSpec, pause: str) -> None:
    """A kind of work for a counted limit, everything for one of the address, nothing of the other end."""
    end = told(error, spec)
    assert isinstance(end, GiveBack)
    assert (end.pause, end.trouble) == (pause, True)


def test_the_delay_is_what_was_asked_for() -> None:
    """Ours only where nobody said."""
    end = told(RateLimited("wait", delay=900, registry="hub.example"), DOWNLOAD)
    assert isinstance(end, GiveBack)
    assert end.delay == 900


def test_plans_hold_the_slot_of_their_source_and_publishes_of_their_destination() -> None:
    """Unless that end is the store, which has no slots."""
    stored = Place(STORE, "hub.example", "library/app", "1")
    limited = Throttled("Too Many Requests", registry="hub.example")
    for source, destination, kinds in (
        (HUB, MIRROR, {names.PLAN: "origin", names.PUBLISH: ""}),
        (stored, HUB, {names.PLAN: "origin", names.PUBLISH: "origin"}),
        (HUB, stored, {names.PLAN: "origin", names.PUBLISH: "origin"}),
    ):
        for spec in image_steps(ImageTransfer("j-0", "j", source, destination)):
            end = told(limited, spec)
            assert isinstance(end, GiveBack)
            assert end.pause == kinds[names.kind_of(spec.id)], (spec.id, source.kind, destination.kind)


@pytest.mark.parametrize(
    ("error", "attempt", "retry"),
    [
        (BlobUnknown("gone"), 1, False),
        (Unavailable("503"), 4, True),
        (InternalError("a bug"), 1, True),
        (RequestTimeout("silence"), SILENCES - 1, True),
        (RequestTimeout("silence"), SILENCES, False),
    ],
)
def test_the_others_are_failures(error: DistworkerError, attempt: int, retry: bool) -> None:
    """Tried again where that can help."""
    end = told(error, attempt=attempt)
    assert isinstance(end, Fail)
    assert end.retry is retry


def test_a_registry_that_planning_saw_is_only_down_for_a_while() -> None:
    """A restarted worker that is refused a connection by a registry in its restart must not end the image;
    before planning the same answer means a wrong name."""
    refused = Unavailable("nothing listens there", retry=False)
    plan, publish = image_steps(ImageTransfer("j-0", "j", HUB, MIRROR))
    for spec in (UPLOAD, DOWNLOAD, publish):
        end = told(refused, spec)
        assert isinstance(end, Fail)
        assert end.retry, spec.id
    end = told(refused, plan)
    assert isinstance(end, Fail)
    assert not end.retry
