"""GitHub's registry: a personal or workflow token as the password, under any user name.

ghcr.io looks at the token alone (GitHub docs, "Working with the Container registry"), so the user may be
left out. The token comes from a file or a variable like every other password; nothing is made or exchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from distworker.registry.credentials import Login

#: Who GitHub says an application's token belongs to; it takes any name.
USER: Final = "x-access-token"


def github(pair: Login) -> Login:
    """The login of `pair`, whose password is a token; its user may be missing."""
    return pair if pair.username or pair.username_file else replace(pair, username=USER)
