"""Which `Listing` a registry gets, by the table of registries.

The one place where an API's host and its way of logging in are joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from distworker.registry.endpoint import Endpoint
from distworker.registry.http import HTTP
from distworker.registry.listing import ghcr, harbor, quay
from distworker.registry.listing.api import Api, Basic, Bearer, Login
from distworker.registry.listing.base import Listing
from distworker.registry.listing.catalog import SpecListing
from distworker.registry.listing.ecr import Connect, ECRListing
from distworker.registry.listing.ghcr import GHCRListing
from distworker.registry.listing.gitlab import GitLabListing
from distworker.registry.listing.google import GoogleListing
from distworker.registry.listing.harbor import HarborListing
from distworker.registry.listing.hub import HubListing, HubLogin
from distworker.registry.listing.quay import QuayListing

#: Listing APIs with HTTP of their own: how to log in, the headers each request carries, what reads them.
_APIS: Final[dict[str, tuple[Callable[[], Login], dict[str, str], Callable[[Endpoint, Api], Listing]]]] = {
    "hub": (HubLogin, {}, HubListing),
    "harbor": (Basic, harbor.HEADERS, HarborListing),
    "quay": (lambda: Bearer(quay.TOKEN_USER), {}, QuayListing),
    "ghcr": (Bearer, ghcr.HEADERS, GHCRListing),
    "gitlab": (Bearer, {}, GitLabListing),
}


def listing_for(at: Endpoint, connect: Callable[[str], HTTP], ecr: Connect) -> Listing:
    """The listing of `at`.

    `connect` makes the HTTP to an API's `host[:port]` ("": the registry's own), its one trusted origin; `ecr`
    makes boto3's client.
    """
    quirks = at.quirks
    if quirks.list_api == "ecr":
        return ECRListing(at, ecr)
    if quirks.list_api == "google":
        return GoogleListing(at)
    if quirks.list_api not in _APIS:
        return SpecListing(at)
    login, headers, make = _APIS[quirks.list_api]
    return make(at, Api(at.registry, connect(quirks.api_host), login(), headers))
