"""GitHub's registry: a personal or workflow token as the password, under any user name.

ghcr.io looks at the token alone (GitHub docs, "Working with the Container registry"), so the user may be
left out. The token comes from a file or a variable like every other password; nothing is made or exchanged.
"""

from __future__ import annotations

from typing import Final

from distworker.registry.credentials import Login

#: The variable that GitHub's workflows call their token.
VARIABLE: Final = "GITHUB_TOKEN"
#: Who GitHub says an application's token belongs to; it takes any name.
USER: Final = "x-access-token"


def github(
    hosts: tuple[str, ...], token: str = "", token_file: str = "", username: str = "", username_file: str = ""
) -> Login:
    """The login for `hosts` with a token, or with the file that holds one and is read at each use."""
    return Login(hosts, username or USER, token, token_file, username_file=username_file)
