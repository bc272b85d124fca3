"""What is known about one registry host, as plain data: how to reach it and what it likes.

A `HostProfile` comes from `registries.toml` (through wiring) or from these defaults. https is the rule; plain
http only where an operator wrote it for this very host:port, never guessed from an address. Docker Hub is the
one name that is not an endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from distworker.registry.quirks import Quirks, UploadMode
from distworker.registry.urls import Origin, origin_of

__all__ = ["HostProfile", "Quirks", "UploadMode", "canonical_host", "endpoint", "trusted_realms"]

#: Names of Docker Hub; one registry, one credential, one budget.
HUB: Final = "docker.io"
HUB_ALIASES: Final = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})
HUB_ENDPOINT: Final = "registry-1.docker.io"

#: Registries whose token server is another host by their maker's design.
BUILT_IN_REALMS: Final = {HUB_ENDPOINT: "auth.docker.io", "registry.gitlab.com": "gitlab.com"}


@dataclass(frozen=True, slots=True)
class HostProfile:
    """How to talk to one `host[:port]`.

    `plain_http`: speak http. `private`: its own host and port may lie at a private address. `ca_file`: PEM of
    extra roots, added to the system's. `proxy`: its URL, "" for none. `max_concurrency`: steps at once (kept
    by the ledger, and the size of the connection pool). `upload_mode`: what the operator wants; anything but
    "auto" also replaces the one of `quirks`. `token_realms`: `host[:port]` of token servers that may be given
    this host's credential although they are another origin. `quirks`: how this registry differs from the
    specification; code asks these.

    `client_cert`, `client_key`: PEM files of the certificate that is shown to the registry itself and to the
    named token servers; one file may hold both. `mirrors`: `host[:port][/prefix]` of servers to read from
    first, in order. `mirror_tags`: these may also say what a tag means.
    """

    plain_http: bool = False
    private: bool = False
    ca_file: str = ""
    proxy: str = ""
    max_concurrency: int = 4
    upload_mode: UploadMode = "auto"
    token_realms: tuple[str, ...] = ()
    client_cert: str = ""
    client_key: str = ""
    mirrors: tuple[str, ...] = ()
    mirror_tags: bool = False
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        if self.upload_mode != "auto":
            # The operator's word, so it stays when the product is recognised later.
            said = self.quirks.said | {"upload_mode"}
            quirks = replace(self.quirks, upload_mode=self.upload_mode, said=said)
            object.__setattr__(self, "quirks", quirks)


def canonical_host(host: str) -> str:
    """`host`, with the names of Docker Hub made one."""
    return HUB if host in HUB_ALIASES else host


def endpoint(host: str, profile: HostProfile) -> Origin:
    """Where requests for `host` really go."""
    scheme = "http" if profile.plain_http else "https"
    return origin_of(f"{scheme}://{HUB_ENDPOINT if canonical_host(host) == HUB else host}")


def trusted_realms(registry: Origin, profile: HostProfile) -> frozenset[Origin]:
    """Origins that may see the credential of `registry`: itself, the built-in pair, the operator's pairs."""
    named = [*profile.token_realms]
    if registry.netloc in BUILT_IN_REALMS:
        named.append(BUILT_IN_REALMS[registry.netloc])
    return frozenset({registry, *(origin_of(f"{registry.scheme}://{name}") for name in named)}) | frozenset(
        origin_of(f"https://{name}") for name in named
    )
