"""Whom may a registry send us to for a token? The one place where a realm becomes an address that is asked.

A registry names its token server itself, so a hostile one can name any address: the rule is that a login goes
to the registry's own origin or to a pair that was named beforehand, and that nothing goes from https to plain
http (CVE-2026-33540, CVE-2026-48978: clients that gave their login to whatever realm they were told). Without
a login any https realm may be asked; what addresses a name may resolve to is judged where connections are
made.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin

from distworker.errors import ProtocolError, RealmRefused
from distworker.limits import HEADER_VALUE_MAX
from distworker.registry.faults import Where
from distworker.registry.urls import Origin, origin_of

# No backslash: some parsers take it for a slash and see another host.
_VISIBLE = re.compile(r"[!-\[\]-~]+", re.ASCII)


def address(realm: str, registry: Origin, trusted: frozenset[Origin], *, login: bool, where: Where) -> str:
    """The address of `realm` as the challenge of `registry` names it; a relative one counts from `/v2/`.

    `trusted`: the origins that may see a login of this registry; `login`: there is one to be sent.

    Raises:
        RealmRefused: no http(s) address, a user name or fragment in it, plain http behind an https registry,
            or a login would go to a host that was not named for it.
    """
    odd = len(realm) > HEADER_VALUE_MAX or "#" in realm or not _VISIBLE.fullmatch(realm)
    try:
        url = "" if odd else urljoin(f"{registry}/v2/", realm)
        origin = origin_of(url)
    except (ProtocolError, ValueError):
        raise refused(where, "the registry names a token server without a usable address") from None
    if origin.scheme == "http" and registry.scheme == "https":
        raise refused(where, f"the token server {origin.netloc} is plain http; logging in there is refused")
    if login and origin not in trusted:
        raise refused(
            where,
            f"the registry sends logins to {origin.netloc}, which is another host; if that is right, "
            f"add it to `token_realms` of {where.registry} in registries.toml",
        )
    return url


def refused(where: Where, what: str) -> RealmRefused:
    """The token server may not be asked, or not like this."""
    return RealmRefused(f"{where}: {what}", **where.fields)
