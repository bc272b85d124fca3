"""Mounting a blob from another repository of the same registry (distribution-spec, "Mounting a blob").

One POST: 201 is a mount, 202 an ordinary session that must be used or cancelled, anything else a refusal,
after which an ordinary session is opened. A refusal never fails the job.
"""

from __future__ import annotations

from distworker.digest import Digest
from distworker.errors import AuthRequired, Denied, RealmRefused, TransferError, Unauthorized
from distworker.registry import scopes, uploads
from distworker.registry.base import UploadSession
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint


def mount_blob(at: Endpoint, repository: str, digest: Digest, source: str) -> UploadSession | None:
    """None when mounted; else a session to upload through."""
    call = Call(
        "POST",
        at.uploads(repository, mount=digest, **{"from": source}),
        at.where("mount blob", repository, digest),
        # Both in one token, or the registry cannot see that we may read the source.
        scopes=(scopes.push(repository), scopes.pull(source)),
    )
    try:
        with at.http.send(call) as reply:
            if reply.status == 201:
                return None
            if reply.status == 202:
                return uploads.session_of(repository, reply)
    except (AuthRequired, Unauthorized, Denied, RealmRefused):
        pass  # perhaps only the source is closed to us; the plain POST will tell
    except TransferError as error:
        if error.retry:
            raise
    return uploads.start_upload(at, repository)
