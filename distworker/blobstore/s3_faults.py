"""What an S3 server's refusals mean, and what a person can do about each.

Pure: it knows codes and statuses, not the client library. Codes are those of the S3 API reference ("Error
responses") and the ones other servers add. Server text is quoted only as a code, never as a URL.
"""

from __future__ import annotations

from typing import Final

from distworker.errors import DistworkerError, StoreFull, StoreUnavailable

#: Codes and statuses for "it is not there"; HEAD answers have no body and therefore only a status.
MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
#: The upload was completed or taken back by somebody else.
UPLOAD_GONE: Final = frozenset({"NoSuchUpload"})
#: Asked for bytes from the end on.
PAST_END: Final = frozenset({"InvalidRange", "416", "RequestedRangeNotSatisfiable"})
#: A completion named a part that is not there, or not as it was.
PART_GONE: Final = frozenset({"InvalidPart"})

_FULL_CODES: Final = frozenset({"EntityTooLarge", "InsufficientStorage"})
# Words in the codes of Ceph, MinIO, Swift and others when a quota or a disk is used up.
_FULL_WORDS: Final = ("Quota", "StorageFull", "SizeExceeded")
# 413: Swift's answer to a full container quota. 507: WebDAV's Insufficient Storage, sent by Swift and others.
_FULL_STATUS: Final = frozenset({413, 507})

_DENIED: Final = "the key needs to get, put, delete and list objects and uploads in this bucket"
_REMEDIES: Final = {
    "NoSuchBucket": "the bucket does not exist; create it or correct the bucket's name",
    "InvalidBucketName": "the bucket's name is not a valid one; correct it",
    "InvalidAccessKeyId": "the access key is not known there; correct the access key",
    "SignatureDoesNotMatch": "access key and secret key do not fit together; correct them",
    "AccessDenied": f"access is denied; {_DENIED}",
    "ExpiredToken": "the session token has expired; give a new one",
    "InvalidToken": "the session token is not valid; give a new one",
    "RequestTimeTooSkewed": "its clock and this machine's differ too much; set the clock",
    "PermanentRedirect": "the bucket is in another region or at another address; correct region and endpoint",
    "AuthorizationHeaderMalformed": "the bucket is in another region; correct the region",
    "NotImplemented": "it does not know this operation; use a server with multipart uploads",
    "XAmzContentSHA256Mismatch": "it wants signed payloads; turn payload signing on",
    "InvalidPart": "a part that was sent to it is not there any more; the blob is sent again",
    "SlowDown": "it is overloaded; give it time, or fewer workers",
}
#: Refusals that a second try gets past: somebody else changed what we relied on, or the request was late.
_PASSING: Final = frozenset({"SlowDown", "InvalidPart", "NoSuchUpload", "RequestTimeout", "OperationAborted"})
_STATUS_REMEDIES: Final = {
    301: _REMEDIES["PermanentRedirect"],
    # The answer to a HEAD has no code: it may be any of the above.
    403: f"access is denied; check the keys and this machine's clock, and that {_DENIED}",
    503: _REMEDIES["SlowDown"],
}


class UploadGoneError(StoreUnavailable):
    """The multipart upload is no longer there."""


class PartGoneError(StoreUnavailable):
    """The server lacks a part that it took, or has another one by now."""


class PastEndError(StoreUnavailable):
    """Reading was asked to start at or after the end."""


def fault(where: str, action: str, code: str, status: int) -> DistworkerError:
    """The error for a refused request: StoreFull or StoreUnavailable with one clear sentence."""
    shown = f"{status} {code}" if code and code != str(status) else str(status)
    if status in _FULL_STATUS or code in _FULL_CODES or any(word in code for word in _FULL_WORDS):
        return StoreFull(
            f"{where} has no room to {action} ({shown}); free some space or raise its quota", status=status
        )
    reason = _REMEDIES.get(code) or _STATUS_REMEDIES.get(status)
    if reason is None:
        reason = "the server failed; its own log says why" if status >= 500 else "the server refused it"
    passing = code in _PASSING or status in {408, 429} or (status >= 500 and code != "NotImplemented")
    return StoreUnavailable(
        f"{where} cannot {action}: {reason} ({shown})", status=status, passing=None if passing else False
    )
