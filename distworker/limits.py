"""Limits that keep one hostile or broken answer from costing more than itself.

They are constants of the protocol and of our own bookkeeping, not settings: no operator needs to tune them,
and one table shows them all. Sizes are bytes.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- one answer of a registry -------------------------------------------------------------------------------
#: Largest manifest read. The spec asks registries to take 4 MiB; some keep more, regclient reads 8.
MANIFEST_MAX_PULL: Final = 8 * MIB
#: Largest manifest sent: what every registry must take.
MANIFEST_MAX_PUSH: Final = 4 * MIB
#: Error bodies are web pages now and then; the reason stands in the first kilobytes.
ERROR_BODY_MAX: Final = 64 * KIB
#: Status line and headers of one answer, and what may come in one read with them; real ones are under 8 KiB.
HEAD_MAX: Final = 72 * KIB
#: The line before each piece of a chunked body: a size, and extensions that nobody uses. A long one before
#: each byte would keep any pace and bring nothing.
CHUNK_LINE_MAX: Final = 256
#: A token response; real ones are under 8 KiB.
TOKEN_BODY_MAX: Final = 64 * KIB
#: Longest Location, Link or token accepted; longer ones break the next hop's header limits.
HEADER_VALUE_MAX: Final = 16 * KIB
#: Hops of a read.
REDIRECTS_MAX: Final = 5

# --- one manifest -------------------------------------------------------------------------------------------
#: Layers of one manifest; overlayfs stops at 500, artifacts go a little further.
LAYERS_MAX: Final = 1_000
#: Entries of one index.
INDEX_ENTRIES_MAX: Final = 2_000
#: Index inside index inside index: the spec allows nesting, nobody needs more.
INDEX_DEPTH_MAX: Final = 4
#: Manifests of one image, all levels together.
TREE_MANIFESTS_MAX: Final = 5_000
#: Bytes of all of them: a worker holds them at once, and each may be as large as MANIFEST_MAX_PULL.
TREE_BYTES_MAX: Final = 64 * MIB
#: Blobs of one image: its plan goes into the ledger in one call, which takes 2 s for so many.
TREE_BLOBS_MAX: Final = 25_000
#: Nesting of JSON; Python's parser dies by recursion far above it.
JSON_DEPTH_MAX: Final = 64
#: Longest media type (RFC 6838: 127 + "/" + 127).
MEDIA_TYPE_MAX: Final = 255
#: Largest blob; the largest model layers known are around 100 GiB.
BLOB_MAX: Final = 256 * GIB
#: Addresses tried for a layer that lies outside any registry.
EXTERNAL_URLS_MAX: Final = 5
#: Blobs up to this size may ride inside plan and publish steps.
SMALL_BLOB: Final = 64 * KIB

# --- one listing --------------------------------------------------------------------------------------------
#: Pages followed.
PAGES_MAX: Final = 10_000
#: Tags of one repository.
TAGS_MAX: Final = 200_000
#: Names of one listing, all together: as many repositories as are listed, each of the longest name.
NAMES_BYTES_MAX: Final = 64 * MIB
#: Body of one page.
PAGE_BODY_MAX: Final = 8 * MIB

#: Manifests that refer to one image, directly or through each other, and how many steps away.
REFERRERS_MAX: Final = 2_000
REFERRERS_DEPTH_MAX: Final = 4

# --- waiting ------------------------------------------------------------------------------------------------
#: Longest wait a server may ask for, and the shortest we take, in seconds.
RETRY_AFTER_MAX: Final = 6 * 3600.0
RETRY_AFTER_MIN: Final = 1.0
#: Longest wait that a step sleeps through in place, in seconds; longer ones give the step back.
SLEEP_MAX: Final = 30.0
