"""What the ledger is told when a job is opened: for the first time, as a retry, or again after a loss."""

from __future__ import annotations

from typing import Any

from distworker import names
from distworker.plan.model import JobRequest, Place
from distworker.state.base import StepSpec


def first_step(request: JobRequest, window: int) -> StepSpec:
    """The expand step that everything of the job grows from; `window` images are worked on at a time."""
    return StepSpec(
        id=names.expand_id(request.id),
        job=request.id,
        body={"v": names.VERSION, "tenant": request.tenant, "window": window},
        priority=request.priority,
    )


def job_record(request: JobRequest) -> dict[str, Any]:
    """What the ledger keeps of a request for `status`: small whatever the job's size."""
    first = request.pairs[0]
    record = {
        "v": names.VERSION,
        "kind": request.kind,
        "tenant": request.tenant,
        "priority": request.priority,
        "pairs": len(request.pairs),
        "source": _spelled(first.source, first.all_tags),
        "destination": _spelled(first.destination, first.all_tags),
        "labels": dict(request.labels),
    }
    return record | ({"retry_of": request.retry_of} if request.retry_of else {})


def _spelled(place: Place, all_tags: bool) -> str:
    tag = ":*" if all_tags else f":{place.tag}" if place.tag else ""
    digest = f"@{place.digest}" if place.digest else ""
    return f"{place.host}/{place.repository}{tag}{digest}"
