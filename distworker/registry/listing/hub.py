"""Docker Hub's own API: repositories of a namespace, and tags with their digests.

It lives at another host than the registry, wants a token of its own for the same user and password, and
counts its requests apart from pulls (goharbor/harbor#19967), so listing costs no pulls (Docker Hub API).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from distworker.digest import Digest
from distworker.errors import ProtocolError, TransferError, Unauthorized
from distworker.reference import parse_repository
from distworker.registry.call import Reply
from distworker.registry.credentials import Credential
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.http import HTTP
from distworker.registry.listing import api, pages
from distworker.registry.listing.api import Api, Kept
from distworker.registry.listing.pages import Page
from distworker.registry.listing.tags import tags
from distworker.registry.tokens import TokenRequest

#: Entries of one page; more are cut to this.
_PAGE: Final = 100
#: Seconds a token is used; Docker calls it short-lived without a number, and a 401 brings a new one anyway.
_LIFE: Final = 300.0


class HubLogin:
    """User and password (or access token) become a bearer token of the API."""

    def __init__(self) -> None:
        self._kept = Kept(_LIFE)

    def header(self, http: HTTP, credential: Credential, where: Where) -> str:
        """See `Login.header`.

        Raises:
            Unauthorized: refused, or refused in the last ten minutes: trying on would lock the account.
        """
        now = http.auth.clock()
        return self._kept.get(credential.fingerprint, now, lambda: self._ask(http, credential, where))

    def forget(self) -> bool:
        """See `Login.forget`."""
        self._kept.drop()
        return True

    def _ask(self, http: HTTP, credential: Credential, where: Where) -> str:
        http.auth.check_not_refused(credential, where)
        form = {"identifier": credential.username, "secret": credential.secret(http.origin)}
        status, body = http.auth.wire.send(
            TokenRequest(
                "POST",
                f"{http.origin}/v2/auth/token",
                {"Content-Type": "application/json", "Accept": "application/json"},
                json.dumps(form).encode(),
            ),
            where,
        )
        if status != 200:
            raise self._refused(http, credential, where, status)
        token = _token(body)
        if not token:
            raise ProtocolError(
                f"{where}: {http.origin.netloc} answered no usable token to a login", **where.fields
            )
        http.auth.accept(credential)
        return f"Bearer {token}"

    def _refused(self, http: HTTP, credential: Credential, where: Where, status: int) -> TransferError:
        if status in {400, 401, 403}:
            http.auth.refused(credential, where)
            return Unauthorized(
                f"{where}: {http.origin.netloc} refuses the login for listing; check its user and password",
                **where.fields,
                status=status,
            )
        return ProtocolError(
            f"{where}: {http.origin.netloc} answered {status} to a login", **where.fields, status=status
        )


def _token(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    token = api.text(document, "access_token")
    return token if token.isascii() and token.isprintable() and " " not in token else ""


class HubListing:
    """Docker Hub."""

    def __init__(self, at: Endpoint, hub: Api) -> None:
        self._at = at
        self._api = hub

    def repositories(self, prefix: str = "") -> Iterator[str]:
        """See `Listing.repositories`: of one namespace."""
        owner = api.namespace(prefix, self._at.registry, "a namespace")
        where = self._api.where("list repositories", owner)
        path = f"/v2/repositories/{owner}/?page_size={_PAGE}"
        found = self._api.walk(path, where, "repositories", self._reader("repositories"), _name)
        return api.names((f"{owner}/{_name(one)}" for one in found), prefix)

    def tags(self, repository: str) -> Iterator[str]:
        """See `Listing.tags`; from the registry, which counts no listing as a pull."""
        return tags(self._at, repository, self._at.quirks)

    def digests(self, repository: str) -> Mapping[str, Digest] | None:
        """See `Listing.digests`."""
        where = self._api.where("list tags", repository)
        path = f"/v2/repositories/{parse_repository(repository)}/tags?page_size={_PAGE}"
        found = self._api.walk(path, where, "tags", self._reader("tags"), _name)
        return api.tag_map(((_name(one), api.text(one, "digest")) for one in found), where)

    def _reader(self, what: str) -> Callable[[Reply, Any], Page[Any]]:
        def read(reply: Reply, document: Any) -> Page[Any]:
            found = pages.listed(reply, document, "results", what)
            after = api.text(document, "next")
            return Page(found, pages.same_origin(reply, after, self._api.http.origin, what) if after else "")

        return read


def _name(entry: Any) -> str:
    return api.text(entry, "name")
