"""Is a registry there, and does it take our login? `GET /v2/` (distribution-spec, "Determining Support")."""

from __future__ import annotations

from distworker.errors import DistworkerError, NotARegistry, TransferError
from distworker.limits import ERROR_BODY_MAX
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint


def ping(at: Endpoint) -> bool:
    """Return if a registry answers and accepts us: whether it asked for a login and took ours.

    Raises:
        NotARegistry: something else answers there.
        Unauthorized, AuthRequired, RealmRefused, TLSError, Unavailable: why it cannot be used.
    """
    where = at.where("ping")
    with at.http.send(Call("GET", at.ping(), where)) as reply:
        if reply.status != 200:
            raise reply.error()
        html = reply.header("Content-Type").lower().startswith("text/html")
        if html or reply.read(ERROR_BODY_MAX).lstrip()[:1] == b"<":
            raise NotARegistry(
                f"{at.registry} is a web server, not a registry (it answers /v2/ with a page); "
                "check the host name",
                **where.fields,
                status=reply.status,
            )
    return at.http.auth.known is not None and at.http.auth.credential("") is not None


def explained(at: Endpoint, error: TransferError) -> TransferError:
    """`error`, or the better reason for a 404 that does not speak as registries do: there is none."""
    if error.fields.get("status") == 404 and not error.fields.get("registry_code"):
        try:
            ping(at)
        except NotARegistry as better:
            return better
        except DistworkerError:
            return error
    return error
