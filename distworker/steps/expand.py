"""Expand a job: freeze its list once, then release the next window of images into the graph.

Runs again each time there is room. Image ids are those of the frozen list, so a repeated run spawns nothing
twice. A list that had to be asked for is drawn by one run and released by the next: in between the ledger has
said which run's list it is (`plan/frozen.py`). A list that follows from the request alone needs no such turn.
"""

from __future__ import annotations

from dataclasses import replace

from distworker.names import expand_id
from distworker.plan.build import expand_change
from distworker.plan.ends import End, open_end
from distworker.plan.fields import Fields
from distworker.plan.folder import read_request
from distworker.plan.frozen import FrozenList, read_frozen, read_index, write_index, write_shards
from distworker.plan.model import JobRequest, Place
from distworker.plan.select import is_listed, select
from distworker.state.base import Claim
from distworker.steps.base import Answer, Context, Done


def expand(context: Context, claim: Claim) -> Answer:
    """See the module text. Body: `{v, tenant, window?}`, from the ledger `cursor` (images expanded so far)
    and `total`, and from an earlier run `list`, the name of the list that was drawn.

    Raises:
        InvalidRequest: the request in the store is missing or damaged.
    """
    body = Fields(claim.body, "body")
    tenant = body.text("tenant", required=True)
    cursor = body.whole("cursor", 0, 2**53, 0)
    window = body.whole("window", 1, 100_000, context.window)
    taken = FrozenList(body.whole("total", 0, 2**53, 0), body.text("list"))
    frozen = read_index(context.store, tenant, claim.job)
    if taken.name and frozen != taken:
        # The index of a run before Redis was lost may be here; ours is the one that the ledger took.
        write_index(context.store, tenant, claim.job, taken)
        frozen = taken
    if frozen is None:
        request = read_request(context.store, tenant, claim.job)
        frozen = _freeze(context, claim, request)
        if frozen.name:
            change = expand_change((), frozen.total, 0)
            named = ((expand_id(claim.job), {"list": frozen.name}),)
            return Done(f"listed {frozen.total} images", replace(change, patch=named))
        write_index(context.store, tenant, claim.job, frozen)
    transfers = read_frozen(context.store, tenant, claim.job, frozen, cursor, window)
    reached = cursor + len(transfers)
    return Done(
        f"images {cursor} to {reached} of {frozen.total}", expand_change(transfers, frozen.total, reached)
    )


def _freeze(context: Context, claim: Claim, request: JobRequest) -> FrozenList:
    """Write the shards, under this claim's token when a registry was asked."""

    def open_place(place: Place) -> End:
        return open_end(context.registries, context.store, request.tenant, place)

    name = claim.token if is_listed(request) else ""
    transfers = select(request, open_place)
    return write_shards(context.store, request.tenant, request.id, transfers, name, context.watch.check)
