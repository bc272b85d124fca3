"""The S3 client library's description of S3, without what we never use.

The library keeps every text and operation of its data files as ordered dictionaries for as long as the client
lives; that is 11 MiB, more than all of our own code. Texts, the operations outside `OPERATIONS` and the hosts
of other services are left out while reading; what only building a client needs is forgotten after it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from botocore.loaders import JSONFileLoader, Loader

#: What `s3.py`, `s3_copy.py` and `s3_writer.py` call; a client has no other methods.
OPERATIONS: Final = (
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteObject",
    "GetObject",
    "HeadBucket",  # the library asks it for a bucket's region when a request was redirected
    "HeadObject",
    "ListMultipartUploads",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "UploadPart",
    "UploadPartCopy",
)

#: Whose hosts are kept: S3's, and those of the services that the machine's own credentials may come from.
SERVICES: Final = frozenset({"s3", "sts", "sso", "portal.sso", "oidc"})


class _Files(JSONFileLoader):  # type: ignore[misc] # the library has no types
    """Reads data files into plain dictionaries without documentation."""

    def load_file(self, file_path: str) -> Any:
        """The file's content, or None when there is no such file."""
        for ending, opened in ((".json", Path.open), (".json.gz", gzip.open)):
            path = Path(file_path + ending)
            if path.is_file():
                with opened(path, "rb") as file:
                    return json.load(file, object_hook=_hosts if path.stem == "endpoints" else _untold)
        return None


class LeanLoader(Loader):  # type: ignore[misc] # the library has no types
    """The library's loader for a session that makes one S3 client."""

    FILE_LOADER_CLASS = _Files

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """As the library's own; of S3 only what we use."""
        model = super().load_service_model(service_name, type_name, api_version)
        if (service_name, type_name) == ("s3", "service-2"):
            _reduce(model)
        return model

    def forget(self) -> None:
        """Drop what was read; the client keeps the parts it works with."""
        self._cache.clear()


def _untold(table: dict[str, Any]) -> dict[str, Any]:
    if isinstance(table.get("documentation"), str):
        table["documentation"] = ""  # some readers insist on the key
    return table


def _hosts(table: dict[str, Any]) -> dict[str, Any]:
    services = table.get("services")
    if isinstance(services, dict):
        table["services"] = {name: hosts for name, hosts in services.items() if name in SERVICES}
    return table


def _reduce(model: dict[str, Any]) -> None:
    model["operations"] = {name: model["operations"][name] for name in OPERATIONS}
    shapes, wanted, open_ = model["shapes"], set(), [model["operations"]]
    while open_:
        for name in _named(open_.pop()):
            if name not in wanted:
                wanted.add(name)
                open_.append(shapes[name])
    model["shapes"] = {name: shape for name, shape in shapes.items() if name in wanted}


def _named(part: Any) -> Iterator[str]:
    """Names of the shapes that a part of the model refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        part = part.values()
    if not isinstance(part, str | int | float | bool | None):
        for each in part:
            yield from _named(each)
