"""Every Redis key of the ledger, spelled here and nowhere else.

The Lua scripts get this table as their first lines (`lua_table`), so Python and Lua cannot disagree. A live
record has no TTL; each row says who removes it, so that nothing outlives its job by accident.
"""

from __future__ import annotations

from typing import Final

DEFAULT_PREFIX: Final = "dw:"

#: name → what follows the prefix; most names are followed by an id.
TABLE: Final[dict[str, str]] = {
    # steps
    "step": "s:",  # <step> string: the packed step record; deleted when the step is done, failed or dropped
    "subs": "sub:",  # <step> hash: subscriber → its packed spec, all but the home's; deleted with the step
    "ranks": "rnk:",  # <step> zset: the same subscribers, in the order in which they would become home
    "draining": "draining",  # set: steps that are over while subscribers are still to be told; left then
    "barrier": "rem:",  # <publish step> set: the steps it waits for (other kinds keep theirs in the record)
    "got": "got:",  # <publish step> hash: finished need → what it delivered; deleted with the step
    "due": "due",  # zset: queued, running and delayed steps by deadline (ms); emptied by the reaper
    "fly_control": "fly:control",  # set: queued or running expand, plan and publish steps
    "fly_layers": "fly:layers",  # set: queued or running uploads and downloads
    "ready": "rdy:",  # <kind><priority>|<job>|<origin>|<credential> zset: ready steps; gone when empty
    "ring": "ring:",  # <kind><priority> list: the pairs whose ready set is not empty, in turn
    "parked": "park:",  # j|<job> or o|<origin> set: pairs out of their ring while that one is paused
    "answer": "ans:",  # <token> string: what its last operation was told; TTL Rules.answer
    # origins
    "use": "use:",  # <origin>|<credential> set: steps that hold a slot; freed with each of them
    "pause": "pause:",  # <origin> or <origin>|<credential>|<kind> string: end, begin (ms); TTL a minute more
    "stopped": "stopped",  # set: origins an operator paused, until resumed
    "caps": "caps",  # hash: origin → slots; replaced by set_caps, stays
    "hint": "hint:",  # <origin>|<credential>|<digest> zset: repositories by age; TTL Rules.hint
    "fact": "fact:",  # <origin> hash: what was learned of it → its end, text; TTL learned.KEEP from a change
    # jobs
    "job": "job:",  # <job> hash: record, state, counters; TTL Rules.keep from closing
    "images": "img:",  # <job> set: open images; each leaves when it closes
    "running": "run:",  # <job> set: steps running for it; each leaves when it stops
    "outcomes": "out:",  # <job> list: closed images; TTL Rules.keep from closing
    "jobs": "jobs",  # zset: all known jobs by number; TTL Rules.keep while none is open
    "unreported": "unrep",  # zset: closed jobs by time; each leaves with its report; TTL Rules.keep
    "open": "open",  # set: jobs that are not closed
    "cancelling": "cancelling",  # set: jobs being cancelled; each leaves when it closes
    "walks": "walks",  # hash: job paused or resumed just now → how far its shared steps were looked through
    # lanes
    "lane": "lane:",  # <lane> hash: last number, newest published, its note; TTL Rules.keep from the last use
    "lane_image": "lani:",  # <lane>|<image> string: that image's number; TTL Rules.keep
    # what workers share about logins (vault.py)
    "vault": "vt:",  # <mark of a name> string: an encrypted token or refusal; TTL its own life
    "vault_turn": "vl:",  # <mark of a name> string: who fetches it just now; TTL 30 s at most, freed before
    # upkeep (turns.py)
    "turn": "turn:",  # <sweep> hash: whose turn it is, what the last round swept, when it is due; stays
    # upload sessions that are open at registries (sessions.py)
    "session": "us:",  # <step> hash: claim → an encrypted session; gone with it, by the sweep, or after a day
    "sessions": "sessions",  # zset: steps that have one by age; each leaves with its last one, or after a day
    # workers and the ledger itself
    "seen": "w:seen",  # zset: owner → last beat (ms); swept by the reaper
    "slots": "w:slots",  # hash: owner → slots; swept with it
    "info": "w:info",  # hash: owner → what it said of itself; swept with it
    "seq": "seq",  # counter: ages of steps, subscriptions and jobs; stays
    "reaped": "reaped",  # string: when the reaper last ran (ms), and its version; stays
    "settle": "settle",  # string: the write after which the disk is asked; TTL 1 s
    "full": "full",  # string: the server's memory is above the ceiling; TTL Rules.full, set by the reaper
}

#: Keys that belong to the installation and not to a job: they may stay for ever.
STANDING: Final = frozenset({"turn", "caps", "stopped", "seen", "slots", "info", "seq", "reaped", "settle"})


def key(prefix: str, name: str, suffix: str = "") -> str:
    """The Redis key of a row of the table."""
    return f"{prefix}{TABLE[name]}{suffix}"


def lua_table() -> str:
    """The table as Lua source, for the head of every script."""
    rows = ", ".join(f"{name} = '{text}'" for name, text in TABLE.items())
    return f"local KEY = {{{rows}}}\n"
