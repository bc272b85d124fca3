"""Verified TLS contexts, built once for each set of files and shared by all threads.

Building a context reloads every root certificate; done per connection that costs 15 ms of CPU. Certificates
and host names are always checked, by TLS 1.2 or later; there is no switch. Extra authorities are added to
the system's, never in their place. A client's certificate is in a context of its own (`home`), so that what
is connected to elsewhere (`abroad`) cannot ask for it. Files may change under us: they are looked at now and
then, and what was built from the old ones serves whoever holds it to its end.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import certifi

from distworker.errors import ConfigInvalid
from distworker.registry.hostfiles import certsd
from distworker.registry.waits import TLS_LOOK_SECONDS

log = logging.getLogger(__name__)
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files of one profile: PEM with extra authorities, pairs of a client's certificate and key (an empty
    key lies in the certificate's file), and folders in the manner of docker's certs.d."""

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()

    def __add__(self, other: TLSFiles) -> TLSFiles:
        return TLSFiles(
            (*self.authorities, *other.authorities),
            (*self.pairs, *other.pairs),
            (*self.folders, *other.folders),
        )


@dataclass(frozen=True, slots=True)
class Contexts:
    """`home` for the registry itself, `abroad` for wherever it leads; the same where no client certificate
    is."""

    home: ssl.SSLContext
    abroad: ssl.SSLContext


#: File → what tells whether it changed: rename, rewrite and the symbolic links of Kubernetes all show.
_Marks: TypeAlias = tuple[tuple[str, int, int, int], ...]


@dataclass(slots=True)
class _Kept:
    contexts: Contexts
    marks: _Marks
    looked: float


_CONTEXTS: Final[dict[TLSFiles, _Kept]] = {}


def contexts(files: TLSFiles = TLSFiles()) -> Contexts:
    """The contexts for `files`; the same objects as long as the files stay the same.

    Raises:
        ConfigInvalid: a file is missing, holds no certificate or key, the key is encrypted or of another
        certificate, or half of a pair is missing. Not where older contexts can go on: a rotation that is half
        done is told in the log and tried again.
    """
    with _LOCK:
        kept = _CONTEXTS.get(files)
        now = time.monotonic()
        if kept is not None and now - kept.looked < TLS_LOOK_SECONDS:
            return kept.contexts
        try:
            plain, marks = _found(files)
            if kept is None or marks != kept.marks:
                kept = _CONTEXTS[files] = _Kept(_built(plain), marks, now)
        except ConfigInvalid as error:
            if kept is None:
                raise
            log.warning("%s; the certificates read before go on being used", error.message)
        kept.looked = now
        return kept.contexts


def _found(files: TLSFiles) -> tuple[TLSFiles, _Marks]:
    """`files` with the folders read, and the marks of all of them."""
    for folder in files.folders:
        there = certsd.certificates(folder)
        files = files + TLSFiles(there.authorities, there.pairs)
    files = replace(files, folders=())
    if len(set(files.pairs)) > 1:
        names = ", ".join(certificate for certificate, _ in files.pairs)
        raise ConfigInvalid(f"several client certificates for one registry: {names}; keep one")
    paths = (*files.authorities, *(path for pair in files.pairs for path in pair if path))
    return files, tuple(_marks(paths))


def _marks(paths: Iterable[str]) -> Iterable[tuple[str, int, int, int]]:
    for path in paths:
        try:
            there = Path(path).stat()
        except OSError:
            yield path, 0, 0, 0
        else:
            yield path, there.st_ino, there.st_size, there.st_mtime_ns


def _built(files: TLSFiles) -> Contexts:
    abroad = _trusting(files.authorities)
    if not files.pairs:
        return Contexts(abroad, abroad)
    home = _trusting(files.authorities)
    _show(home, *files.pairs[0])
    return Contexts(home, abroad)


def _trusting(authorities: Iterable[str]) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        # A Python that brings no roots (python.org on macOS): use those of its certifi.
        made.load_verify_locations(cafile=certifi.where())
    for path in authorities:
        try:
            made.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError):
            raise ConfigInvalid(
                f"{path}: cannot be read or holds no PEM certificate; it was named as the authority to trust"
                " for a registry",
                field="ca_file",
            ) from None
    return made


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load the pair, with a reason that says which half is at fault."""
    asked: list[bool] = []

    def passphrase() -> str:
        # Without this OpenSSL would ask on the terminal.
        asked.append(True)
        return ""

    key_file = key or certificate
    for path, marker, what in (
        (certificate, "CERTIFICATE-----", "certificate"),
        (key_file, "KEY-----", "key"),
    ):
        try:
            text = Path(path).read_text(encoding="latin-1")
        except OSError as error:
            reason = error.strerror
        else:
            reason = "" if marker in text else f"there is no PEM {what} in it"
        if reason:
            raise _bad_pair(what, path, reason)
    try:
        context.load_cert_chain(certificate, key_file, passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
    else:
        return
    if asked:
        raise _bad_pair("key", key_file, "it is encrypted; give the key without a passphrase")
    if mismatch:
        raise _bad_pair("key", key_file, f"it does not belong to the certificate {certificate}")
    raise _bad_pair("certificate", certificate, f"it cannot be used together with the key {key_file}")


def _bad_pair(what: str, path: str, reason: str) -> ConfigInvalid:
    field = "client_key" if what == "key" else "client_cert"
    return ConfigInvalid(f"{path}: no client {what} for a registry: {reason}", field=field)
