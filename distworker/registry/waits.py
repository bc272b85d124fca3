"""Times and counts of the registry client, each with its reason, in one table.

Sizes that other rooms share (manifest, error body, pages) stand in `distworker.limits`. None of these is a
setting: what operators tune per host stands in `profiles.py`.
"""

from __future__ import annotations

from typing import Final

#: Seconds to open a TCP connection and finish the TLS handshake.
CONNECT_TIMEOUT: Final = 10.0
#: Addresses of one name that are dialled in turn: each may cost the time above, and how many there are is up
#: to whoever owns the name.
ADDRESSES_TRIED_MAX: Final = 6
#: Seconds without a byte from the server before a reply counts as stalled.
READ_TIMEOUT: Final = 60.0
#: Seconds for one piece of a body to leave; urllib3 would use the connect timeout, which cuts slow uplinks.
SEND_TIMEOUT: Final = 60.0
#: Bytes handed to the socket at once, so that SEND_TIMEOUT means at least 17 KiB/s.
SEND_PIECE: Final = 1 << 20
#: A body must bring this many bytes in each so many seconds of waiting: 50 KiB/s, under any line that could
#: carry images, over what a server does that means to hold us.
PACE_SECONDS: Final = 60.0
PACE_BYTES: Final = 60 * 50 * 1024
#: Seconds for the reply to a commit: the server may hash and copy the whole blob first.
COMMIT_TIMEOUT: Final = 300.0
#: Seconds for clean-up that nobody waits for.
CANCEL_TIMEOUT: Final = 10.0

#: Certificates are looked at for changes this often: a rotation has hours, a stat costs a file system call.
TLS_LOOK_SECONDS: Final = 30.0
#: Seconds in which a mirror that failed is not asked: longer than a step's tries follow each other, so that
#: wrong bytes are not fetched twice from it and a dead one costs its timeout once.
MIRROR_REST: Final = 300.0

#: Sends of one request in place; longer patience belongs to the ledger, which frees the slot meanwhile.
TRIES: Final = 4
#: First and longest pause (seconds) between them; full jitter.
BACKOFF_BASE: Final = 0.5
BACKOFF_CAP: Final = 8.0
#: Faults of one origin in a row after which it is left alone for this long (seconds).
FAILURES_IN_A_ROW: Final = 10
CIRCUIT_SECONDS: Final = 30.0
#: Seconds to stay away after a counted limit without a date: such windows slide over hours.
LIMIT_WAIT: Final = 900.0
#: Seconds to stay away when throttled without a date and in-place waits did not help.
THROTTLE_WAIT: Final = 30.0

#: A reconnect is free when this much came since the last one (bytes, or seconds passed): c/image's rule.
FREE_RECONNECT_BYTES: Final = 1 << 20
FREE_RECONNECT_SECONDS: Final = 60.0
#: Reconnects of one blob in all, however much progress each made.
RECONNECTS_MAX: Final = 50
#: Seconds after which a blob is not reconnected to any more: an hour, and what its bytes take at 50 KiB/s.
BLOB_SECONDS_BASE: Final = 3600.0
BLOB_SECONDS_PER_BYTE: Final = 1 / (50 << 10)
#: Seconds before a blob that vanished while it was read is asked for once more.
VANISHED_WAIT: Final = 1.5
#: Seconds a repository is not asked again for the referrers API that it lacks.
REFERRERS_MEMORY: Final = 300.0
#: Upload sessions opened for one blob before it is given back.
SESSIONS_MAX: Final = 3

#: Token requests that one logical request may cause (distribution's token specification).
TOKEN_REQUESTS_MAX: Final = 2
#: A token lives at least this long (seconds), whatever it says (distribution's token specification).
TOKEN_LIFE_MIN: Final = 60.0
#: Tokens are renewed at this share of their life, and at least this many seconds before its end.
TOKEN_RENEW_AT: Final = 0.8
TOKEN_MARGIN: Final = 5.0
#: Seconds for which one process may ask a token server while others wait for its answer, and between looks.
TOKEN_TURN: Final = 30.0
TOKEN_TURN_POLL: Final = 0.05
#: Seconds for which other processes go by what one learned of how a registry wants to be logged in to.
CHALLENGE_MEMORY: Final = 600.0
#: Answers to 401 in one logical request: each token request, and one token that somebody else got meanwhile.
REPLAYS_MAX: Final = 3
#: Resources whose tokens are kept per origin and credential; one per repository in use.
TOKENS_KEPT: Final = 1024
#: Seconds a refused login is not tried again: Docker Hub locks the account for ten minutes.
BAD_LOGIN_MEMORY: Final = 600.0

#: Smallest chunk an upload falls back to (bytes): object stores take no smaller part before the last one.
CHUNK_FLOOR: Final = 5 << 20
#: Largest chunk (bytes), whatever a registry asks for: a chunk is what gets sent again after a fault.
CHUNK_CEILING: Final = 256 << 20
#: Empty closing PUTs sent in one session; of those that nobody answered in time, fewer.
COMMITS_MAX: Final = 3
SILENT_COMMITS_MAX: Final = 2
#: PATCH requests of one blob that may fail, however much progress each made.
PATCH_FAULTS_MAX: Final = 50
#: Bytes between two broken PUTs that count as "broke at the same place": what socket buffers hide.
SAME_PLACE: Final = 8 << 20

#: Seconds waited between PUTs of a manifest while the registry does not see what it was just sent.
LAG_WAITS: Final = (1.0, 2.0, 4.0, 8.0)
#: After that the work is given back for so long.
LAG_DELAY: Final = 15.0
#: Rounds of read, merge and write of one fallback tag for referrers before others win.
MERGES_MAX: Final = 5
#: Seconds one worker may hold the list of one subject's referrers, and between two looks of those who wait:
#: a few small requests, each with its patience.
SUBJECT_TURN: Final = 30.0
SUBJECT_POLL: Final = 0.1
