"""Expand a job: freeze its list once, then release the next window of images into the graph.

Runs again each time there is room. Image ids are those of the frozen list, so a repeated run spawns nothing
twice.
"""

from __future__ import annotations

from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest
from distworker.plan.build import expand_change
from distworker.plan.codec import REQUEST_MAX, load_request
from distworker.plan.ends import End, open_end
from distworker.plan.fields import Fields
from distworker.plan.model import JobRequest, Place
from distworker.plan.select import freeze, frozen_total, read_frozen
from distworker.state.base import Claim
from distworker.steps.base import Answer, Context, Done


def expand(context: Context, claim: Claim) -> Answer:
    """See the module text. Body: `{v, tenant, window?}`, and from the ledger `cursor` (images expanded so
    far).

    Raises:
        InvalidRequest: the request in the store is missing or damaged.
    """
    body = Fields(claim.body, "body")
    tenant = body.text("tenant", required=True)
    cursor = body.whole("cursor", 0, 2**53, 0)
    window = body.whole("window", 1, 100_000, context.window)
    total = frozen_total(context.store, tenant, claim.job)
    if total is None:
        total = _freeze(context, tenant, claim)
    transfers = read_frozen(context.store, tenant, claim.job, cursor, min(window, total - cursor))
    if not transfers and cursor < total:
        raise InvalidRequest(f"job {claim.job}: image {cursor} of {total} is missing from its frozen list")
    reached = cursor + len(transfers)
    return Done(f"images {cursor} to {reached} of {total}", expand_change(transfers, total, reached))


def _freeze(context: Context, tenant: str, claim: Claim) -> int:
    def open_place(place: Place) -> End:
        return open_end(context.registries, context.store, tenant, place)

    return freeze(context.store, _request(context, tenant, claim.job), open_place, context.watch.check)


def _request(context: Context, tenant: str, job: str) -> JobRequest:
    data = context.store.get_bytes(job_key(tenant, job, "request.json"), REQUEST_MAX)
    if data is None:
        raise InvalidRequest(f"job {job}: its request is not in the store; submit it again")
    request = load_request(data)
    if (request.id, request.tenant) != (job, tenant):
        raise InvalidRequest(f"job {job}: the request in the store belongs to another job", field="id")
    return request
