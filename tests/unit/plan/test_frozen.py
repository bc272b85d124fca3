"""A job's list is one list, whoever writes it, however often, and whatever was written beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distworker.blobstore.keys import job_key
from distworker.errors import InvalidRequest, Unavailable
from distworker.plan.folder import folder, read_request, write_request
from distworker.plan.frozen import (
    FrozenList,
    abandoned,
    every_frozen,
    read_frozen,
    read_index,
    write_index,
    write_shards,
)
from distworker.plan.model import JobRequest, Pair
from distworker.plan.select import select
from distworker.state.base import Change, Claim
from distworker.steps.base import Done
from distworker.steps.expand import expand
from tests.fakes.content import image, layer, put
from tests.fakes.ports import Run, Site, registry_place

TO = registry_place("dst.example", "b")
ALL = Pair(registry_place("s.example", "a"), TO, all_tags=True)


class Listed:
    """A job over all tags of a repository, in which a test adds tags between two looks."""

    def __init__(self, *pairs: Pair) -> None:
        self.site = Site("s.example")
        self.tag("1")
        self.run = Run(self.site, Site("dst.example"))
        self.store = self.run.store
        self.run.open("j1", *(pairs or (ALL,)))

    def tag(self, tag: str) -> None:
        put(self.site, "a", tag, image(layer(tag, 10)))

    def expand(self, token: str, **body: object) -> Change:
        """One run of the expand step, as a worker with that token does it."""
        claim = Claim("j:j1", token, "j1", {"v": 1, "tenant": "default", "window": 50, **body}, 1)
        answer = expand(self.run.context, claim)
        assert isinstance(answer, Done)
        return answer.change


def tags(change: Change) -> list[str]:
    """The tags of the images that a run released."""
    return [spec.body["transfer"]["source"]["tag"] for spec in change.spawn if spec.id.startswith("p:")]


def test_a_listed_job_releases_nothing_before_the_ledger_took_its_list() -> None:
    """The first run names its list; without the index nothing was ever released."""
    job = Listed()
    first = job.expand("aa")
    assert (first.spawn, first.total, first.cursor) == ((), 1, 0)
    assert first.patch == (("j:j1", {"list": "aa"}),)
    assert read_index(job.store, "default", "j1") is None
    second = job.expand("bb", list="aa", total=1, cursor=0)
    assert (tags(second), second.total, second.cursor) == (["1"], 1, 1)
    assert read_index(job.store, "default", "j1") == FrozenList(1, "aa")


def test_two_runs_at_once_never_mix_their_lists() -> None:
    """Both draw a list of their own; only the one that the ledger took is read, whoever wrote last."""
    job = Listed()
    job.expand("aa")
    job.tag("0")
    late = job.expand("bb")
    assert late.total == 2
    assert tags(job.expand("cc", list="aa", total=1, cursor=0)) == ["1"]
    job.expand("bb")
    assert tags(job.expand("dd", list="aa", total=1, cursor=0)) == ["1"]


def test_a_run_from_before_a_loss_of_redis_cannot_bring_its_list_back() -> None:
    """It may write its index late; the job that was opened again reads what its own ledger took."""
    job = Listed()
    job.expand("aa")
    job.tag("0")
    job.expand("bb")
    assert tags(job.expand("cc", list="bb", total=2, cursor=0)) == ["1", "0"]
    job.expand("dead", list="aa", total=1, cursor=0)
    assert tags(job.expand("dd", list="bb", total=2, cursor=1)) == ["0"]
    assert read_index(job.store, "default", "j1") == FrozenList(2, "bb")


def test_a_job_that_names_its_tags_takes_one_turn() -> None:
    """Its list follows from the request: two runs write the same bytes, and the images come at once."""
    job = Listed(Pair(registry_place("s.example", "a", "1"), TO))
    first = job.expand("aa")
    assert (tags(first), first.total, first.cursor, first.patch) == (["1"], 1, 1, ())
    kept = {item.key: job.store.get_bytes(item.key, 10**6) for item in job.store.list("")}
    job.store.delete(job_key("default", "j1", "list.json"))
    job.expand("bb")
    assert {item.key: job.store.get_bytes(item.key, 10**6) for item in job.store.list("")} == kept


def test_a_list_of_the_release_before_is_read() -> None:
    """It has plain names and an index without a name, also where a repository was listed."""
    job = Listed()
    drawn = list(select(read_request(job.store, "default", "j1"), lambda place: _end(job, "1")))
    write_index(job.store, "default", "j1", write_shards(job.store, "default", "j1", drawn))
    job.tag("0")
    assert tags(job.expand("aa")) == ["1"]


def _end(job: Listed, *names: str) -> object:
    class End:
        def tags(self) -> Iterator[str]:
            return iter(names)

    return End()


def test_the_whole_journey_of_a_listed_job() -> None:
    """Through the ledger: its tags of that moment, each once."""
    job = Listed()
    job.tag("2")
    job.run.drain()
    assert [o["state"] for o in job.run.outcomes("j1")] == ["done", "done"]
    assert job.run.ran.count("j:j1") == 2


def test_a_listing_that_breaks_freezes_nothing() -> None:
    """Half a list would silently leave images behind; the step is tried again instead."""
    job = Listed()
    request = read_request(job.store, "default", "j1")

    class Breaks:
        def tags(self) -> Iterator[str]:
            yield "1"
            raise Unavailable("the listing broke")

    transfers = select(request, lambda place: Breaks())  # type: ignore[arg-type,return-value]
    with pytest.raises(Unavailable):
        write_shards(job.store, "default", "j1", transfers, "aa")
    assert folder(job.store, "default", "j1").names == {"request.json"}


def test_a_list_longer_than_a_shard_is_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the borders of shards, each transfer once; what an earlier, longer list left is not read."""
    monkeypatch.setattr("distworker.plan.frozen.SHARD_LINES", 3)
    pairs = tuple(Pair(registry_place("s.example", "a", f"t{n}"), TO) for n in range(10))
    job = Listed(*pairs)
    request = read_request(job.store, "default", "j1")
    frozen = write_shards(job.store, "default", "j1", select(request, _unasked), "aa")
    assert job.store.stat(job_key("default", "j1", "list-aa-00003.jsonl")) is not None
    seen: list[str] = []
    while part := read_frozen(job.store, "default", "j1", frozen, len(seen), 4):
        seen += [t.source.tag for t in part]
    assert seen == [f"t{n}" for n in range(10)]
    short = FrozenList(4, "aa")
    assert [t.source.tag for t in every_frozen(job.store, "default", "j1", short)] == seen[:4]


def _unasked(place: object) -> object:
    raise AssertionError("no registry is asked")


def test_a_shard_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not taken for the end of the list."""
    job = Listed()
    with pytest.raises(InvalidRequest, match="image 0 of 5 is missing"):
        job.expand("bb", list="aa", total=5, cursor=0)


def test_a_damaged_index_is_refused() -> None:
    """Rather than taken for an empty list."""
    job = Listed()
    for damaged in (b"{}", b"[]", b"{"):
        job.store.put_bytes(job_key("default", "j1", "list.json"), damaged)
        with pytest.raises(InvalidRequest):
            read_index(job.store, "default", "j1")


def test_lists_that_were_not_taken_are_known() -> None:
    """The sweep removes them; the job's own stays."""
    job = Listed()
    job.expand("aa")
    job.expand("bb")
    job.expand("cc", list="bb", total=1, cursor=0)
    found = folder(job.store, "default", "j1")
    assert abandoned(found, read_index(job.store, "default", "j1")) == ["list-aa-00000.jsonl"]
    assert abandoned(found, None) == ["list-aa-00000.jsonl", "list-bb-00000.jsonl"]
    assert abandoned(found, FrozenList(1)) == ["list-aa-00000.jsonl", "list-bb-00000.jsonl"]


def test_a_new_job_of_an_old_id_finds_nothing_of_the_old_one() -> None:
    """The ledger forgets a job, its list stays in the store: a nightly job would copy the first night for
    ever."""
    job = Listed()
    job.expand("aa")
    job.expand("bb", list="aa", total=1, cursor=0)
    for name in ("paused.json", "cancelled.json", "report-00000.jsonl", "closed.json"):
        job.store.put_bytes(job_key("default", "j1", name), b"{}")
    write_request(job.store, JobRequest("j1", "copy", (ALL,), 5.0))
    assert folder(job.store, "default", "j1").names == {"request.json", "list-aa-00000.jsonl"}
    assert read_request(job.store, "default", "j1").created == 5.0
