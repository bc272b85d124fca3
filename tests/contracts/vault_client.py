"""A worker process as far as tokens go: asks a registry once when it is told to, and says how it went.

python -m tests.contracts.vault_client REDIS_URL REGISTRY TOKEN_SERVER REPOSITORY USER PASSWORD
"""

from __future__ import annotations

import sys

from distworker.digest import Digest
from distworker.errors import DistworkerError
from distworker.registry.credentials import ConfiguredCredentials, Login
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.state.connection import Connection
from distworker.state.vault import RedisVault

FLEET_SECRET = "SECRET-OF-THE-FLEET"


def main() -> None:
    """Make everything, say `ready`, wait for a line, ask, say what came out."""
    redis_url, registry, tokens, repository, user, password = sys.argv[1:]
    redis = Connection(redis_url)
    pool = RegistryPool(
        {registry: HostProfile(plain_http=True, private=True, token_realms=(tokens,))},
        ConfiguredCredentials({"main": Login((registry,), user, password)}),
        vault=RedisVault(redis, FLEET_SECRET),
    )
    client = pool.client(registry)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        said = str(client.has_blob(repository, Digest.of(b"a layer")))
    except DistworkerError as error:
        said = error.code
    sys.stdout.write(f"{said}\n")
    pool.close()
    redis.close()


if __name__ == "__main__":
    main()
