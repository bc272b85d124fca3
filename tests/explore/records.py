"""What a ledger holds, read without its help: from the model's dictionaries, or from the raw keys of Redis.

The two readers give the same `Records`; `invariants.py` judges them, knowing neither ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distworker.state.keys import lua_table
from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger


@dataclass
class StepRecord:
    """One unfinished step. `subscribers` includes the home."""

    state: str
    job: str
    home: str
    subscribers: set[str]
    barrier: set[str]
    held: set[str]
    due: bool
    unwanted: bool


@dataclass
class JobRecord:
    """One job; `outcomes` are (image, state)."""

    state: str
    images: set[str]
    running: set[str]
    outcomes: list[tuple[str, str]]
    counters: Mapping[str, int]
    total: int


@dataclass
class Records:
    """Everything. `ready`: each ready step with its place, `ring|job|origin|credential`; `rings`: places that
    are in their rings, `parked`: places that are not, because of what an operator paused."""

    steps: dict[str, StepRecord] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    ready: list[tuple[str, str]] = field(default_factory=list)
    rings: list[str] = field(default_factory=list)
    parked: dict[str, list[str]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)  #: j|job, o|origin
    flying: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)  #: over, and some who wait for it are not told yet
    use: dict[str, set[str]] = field(default_factory=dict)


def of_model(ledger: MemoryLedger) -> Records:
    """From the model's dictionaries."""
    graph = ledger._graph
    found = Records(flying=set(graph.flying))
    found.ready = sorted((name, "|".join(place)) for name, place in graph.ready._where.items())
    found.rings = sorted(
        "|".join((ring, *pair)) for ring, pairs in graph.ready.rings.items() for pair in pairs
    )
    found.parked = {name: sorted(map("|".join, places)) for name, places in graph.ready.parked.items()}
    found.paused = {f"o|{origin}" for origin in ledger._stopped}
    found.paused |= {f"j|{name}" for name, job in graph.jobs.items() if job.paused}
    found.use = {slot: set(steps) for slot, steps in graph.use.items()}
    timed = {name for _, name in graph.deadlines}
    for name, step in graph.steps.items():
        found.steps[name] = StepRecord(
            step.state,
            step.spec.job,
            step.home,
            set(step.subscribers),
            set(step.barrier),
            set(step.held),
            step.due is not None and name in timed,
            step.unwanted,
        )
    for name, job in graph.jobs.items():
        outcomes = [(str(o["image"]), str(o["state"])) for o in job.outcomes]
        found.jobs[name] = JobRecord(
            job.state, set(job.images), set(job.running), outcomes, dict(job.counters), job.total or 0
        )
    return found


#: Reads all keys at once; a step record is packed, so only the server can open it.
READ = (
    lua_table()
    + """
local P, out = ARGV[1], {steps = {}, jobs = {}, ready = {}, use = {}, rings = {}, parked = {}}
local function ids(name)
  local start, found = P .. KEY[name], {}
  for _, k in ipairs(redis.call('KEYS', start .. '*')) do found[#found + 1] = string.sub(k, #start + 1) end
  return found
end
for _, id in ipairs(ids('step')) do
  local r = cmsgpack.unpack(redis.call('GET', P .. KEY.step .. id))
  out.steps[id] = {r.st, r.p and r.p.j or '', r.h or '', redis.call('HKEYS', P .. KEY.subs .. id),
    string.sub(id, 1, 1) == 'm' and redis.call('SMEMBERS', P .. KEY.barrier .. id) or r.r or {},
    r.hd or {}, redis.call('ZSCORE', P .. KEY.due, id) and true or false, r.k == 1}
end
for _, id in ipairs(ids('job')) do
  local fields, flat = {}, redis.call('HGETALL', P .. KEY.job .. id)
  for n = 1, #flat, 2 do
    if flat[n] ~= 'first' then fields[flat[n]] = flat[n + 1] end -- a packed spec is no text
  end
  out.jobs[id] = {fields, redis.call('SMEMBERS', P .. KEY.images .. id),
    redis.call('SMEMBERS', P .. KEY.running .. id), redis.call('LRANGE', P .. KEY.outcomes .. id, 0, -1)}
end
for _, id in ipairs(ids('ready')) do
  for _, step in ipairs(redis.call('ZRANGE', P .. KEY.ready .. id, 0, -1)) do
    table.insert(out.ready, {step, id})
  end
end
for _, id in ipairs(ids('ring')) do
  for _, pair in ipairs(redis.call('LRANGE', P .. KEY.ring .. id, 0, -1)) do
    table.insert(out.rings, id .. '|' .. pair)
  end
end
for _, id in ipairs(ids('parked')) do out.parked[id] = redis.call('SMEMBERS', P .. KEY.parked .. id) end
out.stopped = redis.call('SMEMBERS', P .. KEY.stopped)
for _, id in ipairs(ids('use')) do out.use[id] = redis.call('SMEMBERS', P .. KEY.use .. id) end
out.flying = redis.call('SUNION', P .. KEY.fly_control, P .. KEY.fly_layers)
out.draining = redis.call('SMEMBERS', P .. KEY.draining)
out.due = redis.call('ZRANGE', P .. KEY.due, 0, -1)
return cjson.encode(out)
"""
)


def of_redis(ledger: RedisLedger) -> Records:
    """From the raw keys."""
    client: Any = ledger.redis.client
    raw = json.loads(client.eval(READ, 0, ledger.redis.key("step").removesuffix("s:")))
    found = Records(flying=set(raw["flying"]), rings=sorted(raw["rings"]), draining=set(raw["draining"]))
    found.ready = sorted((name, place) for name, place in raw["ready"])
    found.parked = {name: sorted(places) for name, places in dict(raw["parked"]).items()}
    found.paused = {f"o|{origin}" for origin in raw["stopped"]}
    found.use = {slot: set(steps) for slot, steps in dict(raw["use"]).items()}
    for name, (state, job, home, others, barrier, held, due, unwanted) in dict(raw["steps"]).items():
        subscribers = {*others, *([home] if home else [])}
        place = "" if name[0] in "mpj" else home
        found.steps[name] = StepRecord(state, job, place, subscribers, set(barrier), set(held), due, unwanted)
    assert set(raw["due"]) <= found.steps.keys(), "a deadline of nothing"
    for name, (fields, images, running, outcomes) in dict(raw["jobs"]).items():
        counters = {key[2:]: int(value) for key, value in fields.items() if key.startswith("c:")}
        ends = [(str(image), str(state)) for image, state, *_ in map(json.loads, outcomes)]
        found.jobs[name] = JobRecord(
            fields["st"], set(images), set(running), ends, counters, int(fields.get("total", 0))
        )
        found.paused |= {f"j|{name}"} if fields.get("pz") else set()
    return found
