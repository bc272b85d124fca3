"""Every key of the store, spelled in one place (design: store layout).

    <tenant>/blobs/<algorithm>/<hex>                 layers, configs and manifests, named by their own digest;
                                                     with an index.json beside them an OCI image layout
    <tenant>/refs/<host>/<repository>/tags/<tag>     small JSON: media type, digest and size of what it names
    <tenant>/jobs/<job>/<name>                       a job's request, frozen list, marks and report (names:
                                                     `plan/folder.py`); a list that a registry was asked for
                                                     has its claim's token, list-<token>-00000.jsonl
    <tenant>/staging/<token>/                        scratch of one claim, swept by its token
    <tenant>/staging/partial/<algorithm>/<hex>       how far a blob's unfinished upload got
    <tenant>/quarantine/<algorithm>/<hex>            blobs whose bytes were found not to match their name
    <tenant>/care/<name>                             where scrub and gc stand; what gc is about to delete;
                                                     whose jobs these are

Names from outside are percent-encoded into one path segment each (`library/alpine` is `library%2Falpine`):
kept as folders, the repository `a/tags` and the tag `tags` of `a` would want the same name, once as a folder
and once as a file. Only checked digests make a blob key, so no text from a registry ever becomes a path.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from distworker.digest import Digest
from distworker.errors import InvalidRequest

#: Longest piece of an encoded name: file systems take 255 bytes per segment; this leaves room for a suffix.
SEGMENT_MAX: Final = 200
#: Ends a piece of a name that continues in the next segment. No encoded name ends in a lone percent sign.
_MORE: Final = "%"

# Where a long name was cut into segments.
_WHOLE = re.compile(rf"{_MORE}/")
# One plain segment: also what the records themselves are called, so it may not begin with a dot.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def blob_key(tenant: str, digest: Digest) -> str:
    """`<tenant>/blobs/sha256/<hex>`. Text that is not a parsed Digest is refused with InvalidRequest."""
    if not isinstance(digest, Digest):
        raise InvalidRequest("a blob key is made from a checked digest only", field="digest")
    return f"{_plain('tenant', tenant)}/blobs/{digest.algorithm}/{digest.hex}"


def blobs_prefix(tenant: str) -> str:
    """Above every blob of the tenant."""
    return f"{_plain('tenant', tenant)}/blobs/"


def ref_key(tenant: str, host: str, repository: str, tag: str) -> str:
    """`<tenant>/refs/<host>/<repository>/tags/<tag>`, each name percent-encoded."""
    return f"{tags_prefix(tenant, host, repository)}{encode(tag)}"


def tags_prefix(tenant: str, host: str, repository: str) -> str:
    """Above every tag of one repository; `decode` turns what follows it into the tag."""
    return f"{_plain('tenant', tenant)}/refs/{encode(host)}/{encode(repository)}/tags/"


def job_key(tenant: str, job: str, name: str) -> str:
    """`<tenant>/jobs/<job>/<name>`, for example `default/jobs/0f3a/list-00000.jsonl`."""
    return f"{jobs_prefix(tenant)}{_plain('job', job)}/{_plain('name', name)}"


def jobs_prefix(tenant: str) -> str:
    """Above the records of every job of the tenant."""
    return f"{_plain('tenant', tenant)}/jobs/"


def refs_prefix(tenant: str) -> str:
    """Above every ref of the tenant; `split_ref` takes such a key apart."""
    return f"{_plain('tenant', tenant)}/refs/"


def split_ref(key: str) -> tuple[str, str, str] | None:
    """Host, repository and tag of a key of `ref_key`; None for any other key below the refs."""
    try:
        names = [decode(text) for text in _WHOLE.sub("", key).split("/")[2:]]
    except UnicodeDecodeError:
        return None
    return (names[0], names[1], names[3]) if len(names) == 4 and names[2] == "tags" else None


def quarantine_prefix(tenant: str) -> str:
    """Above every blob that was put aside."""
    return f"{_plain('tenant', tenant)}/quarantine/"


def quarantine_key(tenant: str, digest: Digest) -> str:
    """Where a blob goes whose bytes are not what its name says."""
    return blob_key(tenant, digest).replace("/blobs/", "/quarantine/", 1)


def care_key(tenant: str, name: str) -> str:
    """`<tenant>/care/<name>`; `name` may have several plain segments."""
    segments = "/".join(_plain("name", part) for part in name.split("/"))
    return f"{_plain('tenant', tenant)}/care/{segments}"


def partial_key(key: str) -> str:
    """Where the record of a blob's unfinished upload lies: `<tenant>/staging/partial/<algorithm>/<hex>`."""
    tenant, _, rest = key.partition("/blobs/")
    return f"{tenant}/staging/partial/{rest}"


def staged_prefix(tenant: str) -> str:
    """Above everything that is not finished yet."""
    return f"{_plain('tenant', tenant)}/staging/"


def staging_prefix(tenant: str, token: str) -> str:
    """Above everything that belongs to one claim token."""
    return f"{_plain('tenant', tenant)}/staging/{_plain('token', token)}/"


def encode(name: str) -> str:
    """`name` percent-encoded: letters, digits and `.`, `_`, `-`, `~` stay, all else becomes %XX.

    A leading dot is encoded too, so that no name means "this folder" or is hidden. An encoded name above 200
    bytes is cut into segments that end in a lone `%`. Raises InvalidRequest when empty.
    """
    if not name:
        raise InvalidRequest("an empty name has no key", field="name")
    text = quote(name, safe="", errors="surrogatepass")
    if text.startswith("."):
        text = "%2E" + text[1:]
    pieces = [text[i : i + SEGMENT_MAX] for i in range(0, len(text), SEGMENT_MAX)]
    return f"{_MORE}/".join(pieces)


def decode(text: str) -> str:
    """The name that `encode` made `text` from."""
    return unquote(text.replace(f"{_MORE}/", ""), errors="surrogatepass")


def _plain(field: str, text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise InvalidRequest(
            f"{field} {text!r} cannot be part of a key: letters, digits, dot, underscore and dash, "
            "at most 128, beginning with a letter or digit",
            field=field,
        )
    return text
