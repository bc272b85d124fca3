"""One login file as a source of logins: helpers first, then the entry that says most about the repository.

`credHelpers` of a host beats `credsStore`, which beats `auths`, as in the docker command; a helper that may
run has the last word on its host. What may run is the operator's choice, not the file's: a helper that may
not is passed over, and `blocked` says so where the file has nothing else for that host. A missing file has
no logins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from distworker.errors import ConfigInvalid
from distworker.registry.credentials import Credential
from distworker.registry.logins.entries import SETTING, Entries, parse, read_entry
from distworker.registry.logins.files import Watched
from distworker.registry.logins.helpers import Helpers
from distworker.registry.profiles import HUB

#: What docker calls Docker Hub in the keys of files and helpers.
_HUB_KEY: Final = "https://index.docker.io/v1/"


class AuthFile:
    """A docker `config.json`, containers `auth.json`, `.dockercfg` or Kubernetes secret; see `entries.py`."""

    def __init__(self, path: Path | str, helpers: Helpers | None = None) -> None:
        self._path = Path(path)
        self._helpers = helpers or Helpers()
        self._file = Watched(self._path, self._parse, Entries(), SETTING)

    def find(self, host: str, repository: str) -> Credential | None:
        """See `LoginFile.find`.

        Raises:
            ConfigInvalid: the file, the entry or an answer of the helper cannot be used.
            RequestTimeout: the helper does not answer.
        """
        file = self._file.get()
        helper, promised = self._helper(file, host, repository)
        if not helper or not self._helpers.allows(helper):
            return self._entry(file, host, repository)
        try:
            return self._helpers.find(helper, _server(file, host), host)
        except ConfigInvalid:
            # `credsStore` is asked for every host; only for those the file lists does it promise an answer.
            if promised:
                raise
        return self._entry(file, host, repository)

    def blocked(self, host: str, repository: str) -> str:
        """See `LoginFile.blocked`."""
        helper, promised = self._helper(self._file.get(), host, repository)
        if not helper or not promised or self._helpers.allows(helper):
            return ""
        return (
            f"{self._path} leaves the login for {host} to the credential helper {helper!r}, which may not "
            f"run here; add {helper!r} to credential_helpers in distworker.toml if you trust it, or give "
            f"{host} a login in registries.toml"
        )

    def refused(self, host: str, credential: Credential) -> None:
        """See `LoginFile.refused`."""
        self._helpers.refused(host, credential)

    def _parse(self, text: str) -> Entries:
        return parse(text, self._path)

    def _entry(self, file: Entries, host: str, repository: str) -> Credential | None:
        found = file.find(host, repository)
        return read_entry(found[1], found[0], self._path) if found else None

    def _helper(self, file: Entries, host: str, repository: str) -> tuple[str, bool]:
        """The helper that has this login, and whether the file says that there is one."""
        if host in file.helpers:
            return file.helpers[host], True
        return file.store, file.find(host, repository) is not None


def _server(file: Entries, host: str) -> str:
    """What the helper knows the registry as."""
    return _HUB_KEY if host == HUB and file.dialect != "containers" else host
