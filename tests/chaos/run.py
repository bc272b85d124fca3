"""One chaos run: rounds of a migration under a drawn plan of faults, and the judgement over each round.

A round brings its own images: a job of a hundred, a second job with newer content for some of the same tags,
and a third one that is cancelled midway. While the plan lasts the source is slow, so that there is always
something in the middle; then everything may come to its end, and watcher and checker say what they found.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import redis

from tests.chaos import plan
from tests.chaos.checker import Checker, Expected
from tests.chaos.content import MIB, Image, Maker, push
from tests.chaos.faults import Faults
from tests.chaos.ledger import LedgerKeys
from tests.chaos.plan import Action
from tests.chaos.recovery import Kill, Recovery
from tests.chaos.report import HANGS, Clock, Report, quantiles
from tests.chaos.site import BUCKET, Site
from tests.chaos.sweep import sweep_ahead
from tests.chaos.watcher import Finding, Watcher

#: Guards against waiting for ever (seconds): for the jobs to end, and for the sweeps to have been everywhere.
JOBS_WITHIN: Final = 420.0
SWEPT_WITHIN: Final = 30.0
#: Steps that run at a time: so many answers to the beginning of an upload may be lost in one fault.
SLOTS: Final = 4 * plan.WORKERS
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much a round moves: images of the migration, those that get newer content, those of the job that
    is cancelled; bytes of a large layer, and of one that a successor goes on with."""

    images: int = 100
    newer: int = 12
    doomed: int = 16
    large: int = 6 * MIB
    huge: int = 24 * MIB


@dataclass
class Round:
    """The images of one round and what is expected of them."""

    number: int
    migrated: list[Image]
    newer: list[Image]
    doomed: list[Image]
    old: list[Image]
    jobs: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    doomed_job: str = ""

    @property
    def versions(self) -> Mapping[str, Sequence[str]]:
        """Each tag's digests in the order in which they may show."""
        tags = {image.name: [image.digest] for image in self.migrated}
        for image in self.newer:
            tags[image.name].append(image.digest)
        for old, new in zip(self.old, self.doomed, strict=True):
            tags[new.name] = [old.digest, new.digest]
        return tags

    @property
    def expected(self) -> list[Expected]:
        """What stands at the destination in the end."""
        newest = {image.name: [image.digest] for image in (*self.migrated, *self.newer)}
        doomed = [Expected(name, self.versions[name]) for name in (image.name for image in self.doomed)]
        return [Expected(name, digests) for name, digests in newest.items()] + doomed

    @property
    def content(self) -> int:
        """Bytes of everything that a round may read from the source, each once."""
        unique: dict[str, int] = {}
        for image in (*self.migrated, *self.newer, *self.doomed):
            unique |= {name: len(data) for name, data in image.blobs.items()}
            unique |= {name: len(raw) for name, (_, raw) in image.manifests.items()}
        return sum(unique.values())


class Chaos:
    """`seed` and `kills` make the plan; a round has at most `per_round` kills, a run at most
    so many `rounds` (a frozen worker is spared when all are killed, so a plan may fall short)."""

    def __init__(
        self,
        site: Site,
        seed: str,
        kills: int,
        *,
        size: Size | None = None,
        per_round: int = 36,
        rounds: int = 1000,
        pace: float = 1.0,
        outage: float = 6.0,
        say: Say = print,
    ) -> None:
        self._site = site
        self._seed = seed
        self._kills = kills
        self._size = size or Size()
        self._per_round = per_round
        self._rounds = rounds
        self._draw: dict[str, float] = {"pace": pace, "outage": outage}
        self._say = say
        self.report = Report(seed)

    def run(self) -> Report:
        """All rounds; ends early after one with findings."""
        started = time.monotonic()
        report = self.report
        samples: list[Kill] = []
        while report.kills < self._kills and report.rounds < self._rounds and not report.findings:
            left = min(self._kills - report.kills, self._per_round)
            samples += self._round(report.rounds, max(left, plan.LEAST_KILLS))
            report.rounds += 1
            said = f"{report.kills} kills, {report.lost} lost, {report.wrong} wrong"
            self._say(f"so far: {report.rounds} rounds, {report.images} images, {said}")
        report.wall = time.monotonic() - started
        report.extra_per_kill = max(0, report.source_bytes - report.unique_bytes) // max(1, report.kills)
        dead = [kill for kill in samples if kill.what != plan.FREEZE]
        report.recovery = quantiles(dead)
        report.recovery_undisturbed = quantiles([kill for kill in dead if not kill.disturbed])
        report.recovered = [
            {k: v for k, v in asdict(kill).items() if k not in {"open", "at"}} for kill in samples
        ]
        return report

    # --- one round ------------------------------------------------------------------------------------------

    def _round(self, number: int, kills: int) -> list[Kill]:
        site, seed = self._site, f"{self._seed}/{number}"
        actions = plan.draw(seed, kills, **self._draw)
        clock = Clock(self.report.phases)
        round_ = self._content(seed, number)
        url = f"{site.valkey.url(0)}"
        watcher = Watcher(site.destination.port, round_.versions)
        with watcher, Recovery(url) as recovery:
            faults = Faults(site, recovery)
            before = site.to_source.down
            site.to_source.rate = _rate(round_.content, actions)
            clock.phase("content")
            self._submit(round_, round_.migrated)
            round_.doomed_job = self._submit(round_, round_.doomed, ends=("done", "cancelled"))
            for step, action in enumerate(actions):
                self._say(f"round {number} {step + 1}/{len(actions)}: {action.what}")
                site.to_source.rate = _rate(round_.content - site.to_source.down + before, actions[step:])
                self._do(action, faults, round_)
            site.to_source.rate = 0
            faults.end()
            clock.phase("faults")
            self._finish(round_, recovery)
            clock.phase("the jobs' end")
        self._judge(round_, watcher, faults, before)
        clock.phase("checks and sweeps")
        return recovery.kills

    def _content(self, seed: str, number: int) -> Round:
        size = self._size
        maker = Maker(seed, large=size.large, huge=size.huge)
        migrated = maker.fleet(f"r{number}/apps", size.images)
        # The others share base layers with the first ones.
        newer = [maker.image(f"r{number}/apps/app{n}", n, version=2) for n in range(size.newer)]
        doomed = maker.fleet(f"r{number}/doomed", size.doomed, middling=MIB // 2)
        old = [maker.image(image.repository, 1000 + n) for n, image in enumerate(doomed)]
        push(self._site.source.port, [*migrated, *doomed])
        push(self._site.destination.port, old)
        return Round(number, migrated, newer, doomed, old)

    def _do(self, action: Action, faults: Faults, round_: Round) -> None:
        if action.what == plan.NEWER:
            push(self._site.source.port, round_.newer)
            self._submit(round_, round_.newer)
        elif action.what == plan.CANCEL:
            self._command("cancel", round_.doomed_job)
        else:
            faults.do(action)

    def _submit(
        self,
        round_: Round,
        images: Sequence[Image],
        ends: tuple[str, ...] = ("done", "unchanged", "superseded"),
    ) -> str:
        site = self._site
        hosts = site.to_source.host, site.to_destination.host
        pairs = [
            dict(zip(("source", "destination"), (f"{host}/{image.name}" for host in hosts), strict=True))
            for image in images
        ]
        path = site.fleet.folder / f"job{round_.number}-{len(round_.jobs)}.yaml"
        path.write_text(json.dumps({"version": 1, "pairs": pairs}))
        job = str(self._command("migrate", str(path), "--detach").events[0]["job"])
        round_.jobs[job] = (len(images), ends)
        return job

    def _command(self, *words: str) -> Any:
        """A command as a person gives it: again, when a server is just being restarted."""
        for _ in range(5):
            ran = self._site.fleet.run(*words, "--json")
            if ran.code == 0:
                return ran
            time.sleep(2)
        raise AssertionError(f"distworker {words[0]}: {ran.text}")

    # --- the end of a round ---------------------------------------------------------------------------------

    def _finish(self, round_: Round, recovery: Recovery) -> None:
        """Wait until no job is open, and retry what failed, once, as a person does."""
        for one in self._site.crew:
            one.wait_ready()
        with LedgerKeys(recovery.url) as keys:
            if not self._wait_closed(keys):
                return
            for job, (_, ends) in list(round_.jobs.items()):
                now = keys.job(job)
                failed = sum(state == "failed" for _, state in now.outcomes) if now else 0
                if failed:
                    self._say(f"{failed} images of {job} failed and are tried again: {now and now.errors}")
                    again = str(self._command("retry", job, "--detach").events[0]["job"])
                    round_.jobs[again] = (failed, ends)
                    round_.jobs[job] = (round_.jobs[job][0], (*ends, "failed"))
                    self.report.retried += failed
            self._wait_closed(keys)

    def _wait_closed(self, keys: LedgerKeys) -> bool:
        """Wait until no job is open; what still is after the guard is a finding."""
        end = time.monotonic() + JOBS_WITHIN
        while time.monotonic() < end:
            with contextlib.suppress(redis.RedisError):
                if not keys.open_jobs():
                    return True
            time.sleep(0.5)
        held = [f"{step.id} {step.state}" for step in keys.steps()][:20]
        self._find([Finding(HANGS, f"jobs {sorted(keys.open_jobs())} are still open: {held}")])
        self._say(self._site.logs())
        return False

    def _judge(self, round_: Round, watcher: Watcher, faults: Faults, before: int) -> None:
        site, report = self._site, self.report
        watcher.look()
        watcher.close()
        judge = Checker()
        judge.registry(site.source.port, site.destination.port, round_.expected)
        wanted = {
            name for image in round_.migrated for name, data in image.blobs.items() if len(data) > MIB // 2
        }
        with LedgerKeys(site.valkey.url(0)) as keys:
            for job, (listed, ends) in round_.jobs.items():
                judge.job(keys, job, listed, ends)
                now = keys.job(job)
                if now:
                    report.outcomes = dict(Counter(report.outcomes) + Counter(s for _, s in now.outcomes))
            left = self._after_the_sweep(keys, wanted, faults.happened)
        report.upload_sessions = {
            "answer lost": left.sessions,
            "refused to end": left.refused,
            "not written down": left.unwritten,
        }
        self._find([*watcher.findings, *judge.findings, *left.findings])
        report.rehashed_bytes += judge.hashed + left.hashed
        report.looks += watcher.rounds
        report.images += sum(listed for listed, _ in round_.jobs.values())
        report.kills += faults.kills
        report.faults = dict(Counter(report.faults) + faults.happened)
        report.source_bytes += site.to_source.down - before
        report.unique_bytes += round_.content

    def _after_the_sweep(self, keys: LedgerKeys, wanted: set[str], happened: Mapping[str, int]) -> Checker:
        """Look for what is left behind until nothing is, or until every sweep has had its time."""
        explained = SLOTS * sum(happened.values())
        unwritten = sum(
            times for what, times in happened.items() if "Valkey" in what or "connections" in what
        )
        end = time.monotonic() + SWEPT_WITHIN
        while True:
            swept = Counter(sweep_ahead(self._site.fleet.config))
            self.report.swept = dict(Counter(self.report.swept) + swept)
            left = Checker()
            left.ledger(keys)
            left.store(self._site.s3, BUCKET, wanted)
            left.uploads(self._site.destination.folder, explained, unwritten)
            if not left.findings or time.monotonic() > end:
                return left
            time.sleep(2)

    def _find(self, findings: Sequence[Finding]) -> None:
        self.report.findings += [asdict(one) for one in findings]


def _rate(left: int, actions: Sequence[Action]) -> float:
    """Bytes a second by which what is left of the content lasts about as long as what is left of the plan."""
    lasts = sum(action.gap + (action.seconds if action.what != plan.FREEZE else 0) + 2 for action in actions)
    return max(1.5 * MIB, left / lasts)
