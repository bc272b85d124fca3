"""An object copied inside the S3 server, whatever its size.

One request copies at most 5 GB (S3 API reference, CopyObject); above, the copy is a multipart upload whose
parts the server fills from the source itself. It is pinned to the source's ETag, so an object replaced in the
middle is never spliced with its successor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from distworker.blobstore.parts import MIB

#: Most bytes of one CopyObject.
COPY_MAX: Final = 5_000_000_000
#: Bytes of one copied part: 5 TiB, the largest object there is, are then 5 120 of the 10 000 allowed.
COPY_PART: Final = 1024 * MIB


def copy(client: Any, source: Mapping[str, str], target: Mapping[str, str], limit: int = COPY_MAX) -> None:
    """Copy `source` over `target` (request fields that name an object). The client's own errors come through;
    an unfinished copy is aborted. `limit`: most bytes that one request may copy."""
    found = client.head_object(**source)
    size, metadata = int(found["ContentLength"]), found.get("Metadata", {})
    if size <= limit:
        client.copy_object(**target, CopySource=dict(source))
        return
    upload = client.create_multipart_upload(**target, Metadata=metadata)["UploadId"]
    done, step = False, min(limit, COPY_PART)
    try:
        parts = _parts(client, source, {**target, "UploadId": upload}, size, found["ETag"], step)
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
        done = True
    finally:
        if not done:
            with contextlib.suppress(Exception):  # the first error is the one to be seen
                client.abort_multipart_upload(**target, UploadId=upload)


def _parts(
    client: Any, source: Mapping[str, str], target: Mapping[str, str], size: int, etag: str, step: int
) -> list[dict[str, Any]]:
    parts = []
    for number, start in enumerate(range(0, size, step), 1):
        answer = client.upload_part_copy(
            **target,
            PartNumber=number,
            CopySource=dict(source),
            CopySourceRange=f"bytes={start}-{min(start + step, size) - 1}",
            CopySourceIfMatch=etag,
        )
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    return parts
