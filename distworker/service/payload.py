"""Reads the request that people and other systems write, and makes a `JobRequest` of it.

The same fields come from the command line, a job file and `send_task("distworker.submit_job", kwargs={…})`:
`v`, then either `source` and `destination` or a list `pairs` of such mappings; optional `kind`, `platforms`,
`all_tags`, `source_credential`, `destination_credential` (each also inside a pair), `priority`, `labels`,
`id`. Strict on purpose: an unknown field or a wrong type is refused with the field's name, because a request
that is half understood moves the wrong images. Credentials are ids; nothing secret is ever in a request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from distworker import names
from distworker.errors import InvalidReference, InvalidRequest, RequestError
from distworker.names import VERSION
from distworker.plan.codec import KINDS, LABELS_MAX, PAIRS_MAX, PLATFORMS_MAX
from distworker.plan.model import REGISTRY, STORE, JobRequest, Pair, Place
from distworker.platforms import Platform
from distworker.reference import Reference

#: Fields of a whole request, and those of each pair (a request with one pair may carry them itself).
PAIR_FIELDS: Final = (
    "source",
    "destination",
    "platforms",
    "all_tags",
    "source_credential",
    "destination_credential",
)
FIELDS: Final = ("v", "id", "kind", "priority", "labels", "pairs", *PAIR_FIELDS)

#: What is said of a second image for one tag, with the number of the pair that has it.
TAKEN: Final = "pairs[{}] puts another image there; give each its own tag"

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?", re.ASCII)
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)


def parse_request(
    payload: Mapping[str, Any], *, new_id: str, created: float, tenant: str = names.TENANT
) -> JobRequest:
    """The job that `payload` asks for; `new_id` is used unless it brings an `id` of its own.

    `created` is Unix seconds. The tenant is never the sender's choice.

    Raises:
        InvalidRequest, InvalidReference: `field` names the field that is wrong, and so does the message.
    """
    _known(payload, FIELDS, "")
    version = payload.get("v")
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION:
        raise _bad("v", f"expected {VERSION}, the version of this payload")
    kind = _text(payload, "kind", "") or ("migrate" if "pairs" in payload else "copy")
    if kind not in KINDS:
        raise _bad("kind", f"expected one of {', '.join(KINDS)}")
    return JobRequest(
        id=_id(payload, new_id),
        kind=kind,
        pairs=_pairs(payload, kind),
        created=created,
        priority=_priority(payload),
        tenant=tenant,
        labels=_labels(payload),
    )


def _pairs(payload: Mapping[str, Any], kind: str) -> tuple[Pair, ...]:
    if "pairs" not in payload:
        return (_pair(payload, kind, ""),)
    mixed = [name for name in ("source", "destination") if name in payload]
    if mixed:
        raise _bad(mixed[0], "give either pairs, or source and destination")
    listed = payload["pairs"]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise _bad("pairs", "expected a list with at least one pair")
    if len(listed) > PAIRS_MAX:
        raise _bad("pairs", f"at most {PAIRS_MAX} pairs in one request")
    shared = {name: payload[name] for name in PAIR_FIELDS if name in payload}
    pairs: list[Pair] = []
    taken: dict[Place, int] = {}
    for number, item in enumerate(listed):
        where = f"pairs[{number}]."
        if not isinstance(item, Mapping):
            raise _bad(where.rstrip("."), "expected a mapping with source and destination")
        _known(item, PAIR_FIELDS, where)
        pairs.append(_pair({**shared, **item}, kind, where))
        first = taken.setdefault(replace(pairs[-1].destination, credential=""), number)
        if pairs[-1].destination.tag and not same_images(pairs[first], pairs[-1]):
            raise _bad(f"{where}destination", TAKEN.format(first))
    return tuple(pairs)


def cautions(request: JobRequest) -> tuple[str, ...]:
    """Sentences for a person about references that are valid but may not be what was meant, each once."""
    places = (place for pair in request.pairs for place in (pair.source, pair.destination))
    references = (Reference(place.host, place.repository, tag=place.tag) for place in places)
    return tuple(dict.fromkeys(said for reference in references for said in reference.cautions()))


def same_images(one: Pair, other: Pair) -> bool:
    """Whether two pairs for one tag ask for the same; otherwise chance decides what the tag ends as."""
    return (one.source, one.platforms) == (other.source, other.platforms)


def _pair(item: Mapping[str, Any], kind: str, where: str) -> Pair:
    all_tags = item.get("all_tags", False)
    if not isinstance(all_tags, bool):
        raise _bad(f"{where}all_tags", "expected true or false")
    source = _reference(item, "source", where)
    if all_tags and source.version:
        raise _bad(f"{where}source", "all_tags takes a repository without tag or digest", InvalidReference)
    source = source if all_tags else source.with_default_tag()
    target = _destination(item, kind, where, source, all_tags)
    return Pair(
        source=_place(
            source, STORE if kind == "push" else REGISTRY, _credential(item, "source_credential", where)
        ),
        destination=_place(
            target, STORE if kind == "pull" else REGISTRY, _credential(item, "destination_credential", where)
        ),
        all_tags=all_tags,
        platforms=_platforms(item, where),
    )


def _destination(
    item: Mapping[str, Any], kind: str, where: str, source: Reference, all_tags: bool
) -> Reference:
    """Where it goes: without a tag of its own it takes the source's; pull and push default to the same
    name."""
    field = f"{where}destination"
    if item.get("destination") is None and kind in {"pull", "push"}:
        if source.digest and not source.tag and kind == "pull":
            raise _bad(f"{where}source", "pull needs a tag to keep the image under", InvalidReference)
        return Reference(source.host, source.repository, tag=source.tag)
    target = _reference(item, "destination", where)
    if target.digest:
        raise _bad(
            field, "a destination is named by tag; its digest follows from the source", InvalidReference
        )
    if all_tags and target.tag:
        raise _bad(field, "all_tags takes a repository without a tag", InvalidReference)
    if kind == "pull" and not all_tags and not (target.tag or source.tag):
        raise _bad(field, "pull needs a tag to keep the image under", InvalidReference)
    return target if target.tag or all_tags or not source.tag else target.with_tag(source.tag)


def _place(reference: Reference, kind: str, credential: str) -> Place:
    return Place(
        kind=kind,
        host=reference.host,
        repository=reference.repository,
        tag=reference.tag,
        digest=reference.digest,
        credential=credential,
    )


def _reference(item: Mapping[str, Any], name: str, where: str) -> Reference:
    text = _text(item, name, where)
    if not text:
        raise _bad(where + name, "missing: expected a reference such as registry.example.com/team/app:1.0")
    try:
        return Reference.parse(text)
    except RequestError as error:
        raise _bad(where + name, error.message, type(error)) from None


def _platforms(item: Mapping[str, Any], where: str) -> tuple[Platform, ...]:
    field, listed = f"{where}platforms", item.get("platforms")
    if listed is None:
        return ()
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise _bad(field, 'expected a list such as ["linux/amd64", "linux/arm64"]')
    if len(listed) > PLATFORMS_MAX:
        raise _bad(field, f"at most {PLATFORMS_MAX} platforms")
    found = []
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise _bad(f"{field}[{number}]", "expected text such as linux/amd64")
        try:
            found.append(Platform.parse(text))
        except RequestError as error:
            raise _bad(f"{field}[{number}]", error.message, type(error)) from None
    return tuple(found)


def _credential(item: Mapping[str, Any], name: str, where: str) -> str:
    text = _text(item, name, where)
    if text and not _CREDENTIAL.fullmatch(text):
        raise _bad(where + name, "expected the id of a credential, up to 64 letters, digits, . _ : -")
    return text


def _id(payload: Mapping[str, Any], new_id: str) -> str:
    text = _text(payload, "id", "") or new_id
    if not _ID.fullmatch(text):
        raise _bad("id", "expected up to 48 lower-case letters, digits and hyphens")
    return text


def _priority(payload: Mapping[str, Any]) -> int:
    value = payload.get("priority", 5)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise _bad("priority", "expected a number from 0 (last) to 9 (first)")
    return value


def _labels(payload: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    labels = payload.get("labels", {})
    if not isinstance(labels, Mapping) or not all(
        isinstance(part, str) and len(part) <= 200 and part.isprintable()
        for pair in labels.items()
        for part in pair
    ):
        raise _bad("labels", "expected a mapping of text to text, each at most 200 printable characters")
    if len(labels) > LABELS_MAX:
        raise _bad("labels", f"at most {LABELS_MAX} labels")
    return tuple(sorted(labels.items()))


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _bad(where + name, "expected text")
    return value.strip()


def _known(item: Mapping[str, Any], fields: Sequence[str], where: str) -> None:
    for name in item:
        if name not in fields:
            raise _bad(f"{where}{name}", f"unknown field; known are {', '.join(fields)}")


def _bad(field: str, text: str, error: type[RequestError] = InvalidRequest) -> RequestError:
    return error(f"{field}: {text}", field=field)
