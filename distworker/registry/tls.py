"""One verified TLS context per set of roots, built once and shared.

Building a context reloads every root certificate; done per connection that costs 15 ms of CPU. Certificates
and host names are always checked; there is no switch. An extra CA is added to the system's
roots, never in their place.
"""

from __future__ import annotations

import ssl
import threading

import certifi

from distworker.errors import ConfigInvalid

_LOCK = threading.Lock()
_CONTEXTS: dict[str, ssl.SSLContext] = {}


def context(ca_file: str = "") -> ssl.SSLContext:
    """The context that trusts the system's roots and those in `ca_file` (PEM).

    Raises:
        ConfigInvalid: the file is missing or holds no certificate.
    """
    with _LOCK:
        found = _CONTEXTS.get(ca_file)
        if found is None:
            found = _CONTEXTS[ca_file] = _build(ca_file)
        return found


def _build(ca_file: str) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        # A Python that brings no roots (python.org on macOS): use those of its certifi.
        made.load_verify_locations(cafile=certifi.where())
    if ca_file:
        try:
            made.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError):
            raise ConfigInvalid(
                f"ca_file {ca_file} cannot be read or holds no PEM certificate; fix it in registries.toml",
                field="ca_file",
            ) from None
    return made
