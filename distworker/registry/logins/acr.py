"""Azure's registries (`*.azurecr.io`): an application of Entra logs in, the registry trades that for its own
token.

Two requests: client credentials at Entra (OAuth 2, with a secret or the token of a federated workload),
then the registry's `POST /oauth2/exchange` (Azure/acr, docs/AAD-OAuth), whose refresh token serves as an
identity token under the user of zeros. What follows is the registry's ordinary token server. Admin accounts
and repository tokens are plain users with passwords and need none of this. The Entra token is sent to the
registry it is for and to no other host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from distworker.errors import ConfigInvalid
from distworker.registry.credentials import Credential, Login
from distworker.registry.logins.files import PHASE, read_secret
from distworker.registry.logins.minted import Keeper, Minted
from distworker.registry.logins.provider import Send, post_form, read_answer

#: The user of an identity token (Azure docs, "az acr login --expose-token").
USER: Final = "00000000-0000-0000-0000-000000000000"

#: Entra of each cloud, by the ending of its registries' names.
_ENTRA: Final = {
    ".azurecr.io": "https://login.microsoftonline.com",
    ".azurecr.us": "https://login.microsoftonline.us",
    ".azurecr.cn": "https://login.chinacloudapi.cn",
}
_SCOPE: Final = "https://containerregistry.azure.net/.default"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}", re.ASCII)
#: Seconds a refresh token is used: it lives for one to three hours and does not say (Azure/acr#214).
_LIFE: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Application:
    """An application in Entra: its tenant, its id and secret as user and password, or in the secret's place a
    file with the token of a federated workload.
    """

    tenant: str
    pair: Login
    token_file: str = ""


class AcrLogin:
    """A `Way` for Azure's registries; see the module text."""

    def __init__(
        self,
        hosts: tuple[str, ...],
        send: Send,
        application: Application,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for host in hosts:
            _entra(host)
        if not _TENANT.fullmatch(application.tenant):
            raise ConfigInvalid(
                f"[{hosts[0]}] tenant: expected the id or domain of an Entra tenant",
                field="tenant",
                phase=PHASE,
            )
        self.hosts = hosts
        self._send = send
        self._application = application
        self._kept: Keeper[str, Credential] = Keeper(clock)

    def open(self, host: str, name: str) -> Credential:
        """See `Way.open`."""
        return self._kept.get(host, lambda: self._mint(host, name))

    def refused(self, host: str, credential: Credential) -> None:
        """See `Way.refused`."""
        self._kept.drop(credential, lambda key: key == host)

    def _mint(self, host: str, name: str) -> Minted[Credential]:
        mine = self._application
        pair = mine.pair.open(host, name)
        form = {"grant_type": "client_credentials", "client_id": pair.username, "scope": _SCOPE}
        if mine.token_file:
            form["client_assertion_type"] = _ASSERTION
            form["client_assertion"] = read_secret(mine.token_file, host, name, "token_file")
        else:
            form["client_secret"] = pair.password
        url = f"{_entra(host)}/{mine.tenant}/oauth2/v2.0/token"
        check = "tenant, username (the application's id) and its secret"
        access, _ = read_answer(post_form(self._send, url, form), "access_token", "Entra", host, check)
        form = {"grant_type": "access_token", "service": host, "tenant": mine.tenant, "access_token": access}
        answer = post_form(self._send, f"https://{host}/oauth2/exchange", form)
        check = f"that the application has the role AcrPull or AcrPush on {host}"
        refresh, _ = read_answer(answer, "refresh_token", host, host, check)
        return Minted(Credential(USER, identity_token=refresh), _LIFE)


def _entra(host: str) -> str:
    for ending, url in _ENTRA.items():
        label = host.lower().removesuffix(ending)
        if label != host.lower() and re.fullmatch(r"[a-z0-9-]+(?:\.[a-z0-9-]+)?", label, re.ASCII):
            return url
    raise ConfigInvalid(
        f"[{host}] login: acr is for hosts below {', '.join(_ENTRA)}, its tokens go nowhere else; correct "
        "the host, or give it a username and password",
        field="login",
        registry=host,
        phase=PHASE,
    )
