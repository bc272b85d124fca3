"""Jobs, image transfers and step bodies ↔ JSON. Every record carries `v`; reading is strict.

What cannot be read raises InvalidRequest with the field's path, because a record that is half understood
would move the wrong images. Empty fields are left out when writing: a step's body lives in Redis once per
pending layer. No record holds a secret; a credential is an id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from distworker.digest import Digest
from distworker.errors import InvalidRequest
from distworker.limits import BLOB_MAX, INDEX_ENTRIES_MAX, MIB
from distworker.names import VERSION
from distworker.plan.fields import Fields
from distworker.plan.model import (
    REGISTRY,
    STORE,
    BlobMove,
    ImageTransfer,
    JobRequest,
    Pair,
    Place,
    PublishOrder,
)
from distworker.platforms import Platform
from distworker.reference import parse_host, parse_repository, parse_tag

KINDS: Final = ("copy", "pull", "push", "migrate")
#: Bounds of one request. A larger migration is several jobs, or all tags of repositories.
PAIRS_MAX: Final = 100_000
PLATFORMS_MAX: Final = 64
LABELS_MAX: Final = 64
#: Largest stored request in bytes: the most pairs at their usual length.
REQUEST_MAX: Final = 64 * MIB

#: What ids of jobs and images look like.
ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
_SEQUENCE_MAX: Final = 2**53


# --- places ---------------------
def dump_place(place: Place) -> dict[str, Any]:
    """A place as JSON, empty fields left out."""
    record: dict[str, Any] = {"kind": place.kind, "host": place.host, "repository": place.repository}
    optional = {
        "tag": place.tag,
        "digest": place.digest and str(place.digest),
        "credential": place.credential,
    }
    return record | {name: value for name, value in optional.items() if value}


def load_place(value: object, path: str) -> Place:
    """The place that `value` says; `path` is where it stands."""
    fields = Fields(value, path)
    place = Place(
        kind=_one_of(fields, "kind", (REGISTRY, STORE)),
        host=fields.spelled("host", parse_host) or "",
        repository=fields.spelled("repository", parse_repository) or "",
        tag=fields.spelled("tag", parse_tag, required=False) or "",
        digest=fields.digest("digest", required=False),
        credential=fields.text("credential", _CREDENTIAL),
    )
    fields.end()
    return place


# --- requests ---------------------
def dump_request(request: JobRequest) -> bytes:
    """A request as the bytes of `request.json`."""
    retry = {"retry_of": request.retry_of} if request.retry_of else {}
    return _json(
        {
            "v": VERSION,
            "id": request.id,
            "kind": request.kind,
            "pairs": [_dump_pair(pair) for pair in request.pairs],
            "created": request.created,
            "priority": request.priority,
            "tenant": request.tenant,
            "labels": dict(request.labels),
            **retry,
        }
    )


def load_request(data: bytes) -> JobRequest:
    """The request that `request.json` holds.

    Raises:
        InvalidRequest: `field` is the path of what is wrong.
    """
    fields = Fields(_parse(data, "request"))
    fields.version()
    request = JobRequest(
        id=fields.text("id", ID, required=True),
        kind=_one_of(fields, "kind", KINDS),
        pairs=tuple(_load_pair(item, path) for path, item in fields.items("pairs", PAIRS_MAX, least=1)),
        created=_seconds(fields),
        priority=fields.whole("priority", 0, 9, 5),
        tenant=fields.text("tenant", _TENANT, required=True),
        labels=_labels(fields),
        retry_of=fields.text("retry_of", ID),
    )
    fields.end()
    return request


def _dump_pair(pair: Pair) -> dict[str, Any]:
    record: dict[str, Any] = {"source": dump_place(pair.source), "destination": dump_place(pair.destination)}
    if pair.all_tags:
        record["all_tags"] = True
    return record | _dump_platforms(pair.platforms)


def _load_pair(value: object, path: str) -> Pair:
    fields = Fields(value, path)
    pair = Pair(
        source=load_place(fields.take("source"), fields.at("source")),
        destination=load_place(fields.take("destination"), fields.at("destination")),
        all_tags=fields.flag("all_tags"),
        platforms=_load_platforms(fields),
    )
    fields.end()
    if pair.all_tags and (pair.source.tag or pair.source.digest):
        raise fields.wrong("source.tag", "all_tags takes a repository without tag or digest")
    if pair.all_tags and pair.destination.tag:
        raise fields.wrong("destination.tag", "all_tags takes a repository without a tag")
    if not pair.all_tags and not (pair.source.tag or pair.source.digest):
        raise fields.wrong("source.tag", "name a tag or a digest, or set all_tags")
    if REGISTRY not in (pair.source.kind, pair.destination.kind):
        raise fields.wrong("destination.kind", "one end must be a registry")
    return pair


# --- the frozen list ---------------------
def dump_transfer(transfer: ImageTransfer) -> dict[str, Any]:
    """One line of the frozen list, also the heart of plan and publish bodies."""
    return {
        "id": transfer.id,
        "job": transfer.job,
        "source": dump_place(transfer.source),
        "destination": dump_place(transfer.destination),
        "priority": transfer.priority,
        "tenant": transfer.tenant,
    } | _dump_platforms(transfer.platforms)


def load_transfer(value: object, path: str = "transfer") -> ImageTransfer:
    """The transfer that `value` says."""
    fields = Fields(value, path)
    transfer = ImageTransfer(
        id=fields.text("id", ID, required=True),
        job=fields.text("job", ID, required=True),
        source=load_place(fields.take("source"), fields.at("source")),
        destination=load_place(fields.take("destination"), fields.at("destination")),
        platforms=_load_platforms(fields),
        priority=fields.whole("priority", 0, 9, 5),
        tenant=fields.text("tenant", _TENANT, required=True),
    )
    fields.end()
    return transfer


def dump_line(transfer: ImageTransfer) -> bytes:
    """One line of a shard, newline included."""
    return _json({"v": VERSION, **dump_transfer(transfer)}) + b"\n"


def load_line(line: bytes, path: str) -> ImageTransfer:
    """The transfer of one line of a shard."""
    record = _parse(line, path)
    Fields(record, path).version()
    return load_transfer({name: value for name, value in record.items() if name != "v"}, path)


# --- step bodies ---------------------
def dump_blob(move: BlobMove) -> dict[str, Any]:
    """The body of a download or upload step."""
    record: dict[str, Any] = {
        "v": VERSION,
        "digest": str(move.digest),
        "size": move.size,
        "media_type": move.media_type,
        "source": dump_place(move.source),
        "tenant": move.tenant,
        "priority": move.priority,
    }
    if move.destination is not None:
        record["destination"] = dump_place(move.destination)
    if move.mount_from:
        record["mount_from"] = move.mount_from
    if move.proven:
        record["proven"] = True
    if move.counted:
        record["counted"] = True
    return record


def load_blob(body: Mapping[str, Any], job: str) -> BlobMove:
    """What a download or upload step's body says; a download's `destination` is None."""
    fields = Fields(body, "body")
    fields.version()
    destination = fields.take("destination")
    move = BlobMove(
        job=job,
        tenant=fields.text("tenant", _TENANT, required=True),
        source=load_place(fields.take("source"), "body.source"),
        digest=cast(Digest, fields.digest("digest")),
        size=fields.whole("size", 0, BLOB_MAX),
        media_type=fields.text("media_type"),
        priority=fields.whole("priority", 0, 9, 5),
        destination=None if destination is None else load_place(destination, "body.destination"),
        mount_from=fields.spelled("mount_from", parse_repository, required=False) or "",
        proven=fields.flag("proven"),
        counted=fields.flag("counted"),
    )
    fields.end()
    return move


def dump_image(transfer: ImageTransfer) -> dict[str, Any]:
    """The body of plan and publish steps as expansion makes it."""
    return {"v": VERSION, "transfer": dump_transfer(transfer)}


def load_image(body: Mapping[str, Any]) -> ImageTransfer:
    """The transfer in a plan step's body."""
    fields = Fields(body, "body")
    fields.version()
    transfer = load_transfer(fields.take("transfer"), "body.transfer")
    fields.end()
    return transfer


def dump_pinned(order: PublishOrder) -> dict[str, Any]:
    """What planning adds to a publish step's body."""
    record: dict[str, Any] = {"digest": str(order.digest), "media_type": order.media_type}
    if order.loose:
        record["loose"] = [str(digest) for digest in order.loose]
    if order.sequence:
        record["sequence"] = order.sequence
    return record


def load_order(body: Mapping[str, Any]) -> PublishOrder:
    """What a planned publish step's body says."""
    fields = Fields(body, "body")
    fields.version()
    order = PublishOrder(
        transfer=load_transfer(fields.take("transfer"), "body.transfer"),
        digest=cast(Digest, fields.digest("digest")),
        media_type=fields.text("media_type"),
        loose=tuple(_digest(item, path) for path, item in fields.items("loose", INDEX_ENTRIES_MAX)),
        sequence=fields.whole("sequence", 0, _SEQUENCE_MAX, 0),
    )
    fields.end()
    return order


# --- pieces ---------------------
def _one_of(fields: Fields, name: str, known: tuple[str, ...]) -> str:
    value = fields.text(name, required=True)
    if value not in known:
        raise fields.wrong(name, f"expected one of {', '.join(known)}")
    return value


def _seconds(fields: Fields) -> float:
    value = fields.take("created")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _SEQUENCE_MAX:
        raise fields.wrong("created", "expected Unix seconds")
    return float(value)


def _labels(fields: Fields) -> tuple[tuple[str, str], ...]:
    labels = Fields(fields.take("labels", {}), fields.at("labels"))
    names = [name for name in labels.names() if isinstance(name, str)]
    if len(names) > LABELS_MAX:
        raise labels.wrong("", f"at most {LABELS_MAX} labels")
    found = tuple((name, labels.text(name)) for name in sorted(names))
    labels.end()
    return found


def _dump_platforms(platforms: tuple[Platform, ...]) -> dict[str, Any]:
    return {"platforms": [str(platform) for platform in platforms]} if platforms else {}


def _load_platforms(fields: Fields) -> tuple[Platform, ...]:
    found = []
    for path, item in fields.items("platforms", PLATFORMS_MAX):
        try:
            found.append(Platform.parse(item))
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}: {error.message}", field=path) from None
    return tuple(found)


def _digest(value: object, path: str) -> Digest:
    found = Fields({"digest": value}, path).digest("digest")
    return cast(Digest, found)


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _parse(data: bytes, path: str) -> Mapping[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{path}: not JSON", field=path) from None
    if not isinstance(record, dict):
        raise InvalidRequest(f"{path}: expected an object", field=path)
    return record
