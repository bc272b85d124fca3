"""The table of registries: one row for each product that differs from the distribution spec, and why.

Hosted services are known by their host name; products that anybody may run are known by the challenge they
send, or by `provider` in `registries.toml`. A challenge picks a row and nothing more: a row that is picked by
what a server says opens no other host to the login. Every cell that is not the default has its public source
beside it (crane is google/go-containerregistry, c/image is containers/image). `docs/registries.md` shows the
table to people and a test keeps the two the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final

from distworker.limits import GIB, MIB
from distworker.registry.challenge import Challenge
from distworker.registry.quirks import Quirks

ROWS: Final[Mapping[str, Quirks]] = {
    row.provider: row
    for row in (
        # distribution, zot and whatever nobody knows: the specification.
        Quirks(),
        Quirks(
            provider="docker-hub",
            catalog=False,  # lists nothing (goharbor/harbor's Docker Hub adapter asks the API instead)
            list_api="hub",
            api_host="hub.docker.com",
            manifest_deletes=False,  # only its own API deletes, and only tags (the same adapter)
            path_parts_max=2,  # namespace and name (the same adapter)
        ),
        Quirks(
            provider="ecr",
            upload_mode="monolithic",  # data after the first PATCH may be lost (containers-roadmap#2831)
            chunk_bytes=10 * MIB,  # parts under 5 MiB are refused (containers-roadmap#2831)
            range_is_stale=True,  # containers-roadmap#2831
            blob_max=52_000 * MIB,  # AWS: Amazon ECR service quotas
            mount_candidates=1,  # a mount needs BLOB_MOUNTING=ENABLED, the same account, region and key (AWS)
            list_api="ecr",
            expired_is_403=True,  # "Your authorization token has expired. Reauthenticate" (AWS: ECR errors)
            token_lifetime=12 * 3600,  # AWS: GetAuthorizationToken
            create_first="repository",  # unless a creation template does it (goharbor/harbor#22842)
            max_concurrency=16,  # many layers at once break sockets (dotnet/sdk-container-builds PR 279)
        ),
        Quirks(
            provider="ecr-public",
            upload_mode="monolithic",  # as ECR
            chunk_bytes=10 * MIB,  # as ECR
            range_is_stale=True,  # as ECR
            blob_max=10_000 * MIB,  # AWS: Amazon ECR Public service quotas
            mount_candidates=1,  # as ECR
            catalog=False,  # it has none (containers-roadmap#1262)
            expired_is_403=True,  # as ECR
            token_lifetime=12 * 3600,  # as ECR
            create_first="repository",  # as ECR
            max_concurrency=16,  # as ECR
        ),
        Quirks(
            provider="google",
            page_size=10_000,  # crane: whole repositories in one answer
            catalog=False,  # Artifact Registry has none; children are in tags/list (crane)
            list_api="google",
            upload_mode="monolithic",  # "chunked uploads are not supported" (Artifact Registry: known issues)
            create_first="repository",  # Artifact Registry: pushing needs the repository
        ),
        Quirks(
            provider="acr",
            blob_max=200 * GIB,  # Azure Container Registry: service tiers and limits
            upload_resumes=False,  # a broken session is gone, BLOB_UPLOAD_INVALID (Azure/acr#214)
            token_lifetime=4500,  # about 75 minutes (MicrosoftDocs/azure-docs#13258)
        ),
        Quirks(
            provider="ghcr",
            upload_mode="monolithic",  # works with any size (oras-project/rust-oci-client#35)
            chunk_bytes=4 * MIB,  # 416 for a longer Content-Range (oras-project/rust-oci-client#35)
            catalog=False,  # goharbor/harbor's GitHub adapter
            list_api="ghcr",
            api_host="api.github.com",
            manifest_deletes=False,  # only GitHub's packages API deletes (goharbor/harbor's GitHub adapter)
        ),
        Quirks(
            provider="quay",
            page_size=100,  # more is refused (google/go-containerregistry#1963)
            list_api="quay",
            mounts="source",  # mount without `from` fails (crane's remote package)
            cancel_needs_delete=True,  # nobody grants it for a cancelled upload (c/image)
            tag_deletes=True,  # the pointer alone; older ones answer 405 (quay/quay PR 3128)
            max_concurrency=8,  # strict 429 (ivanilves/lstags#204)
        ),
        Quirks(
            provider="harbor",
            page_size=100,  # the most its own API gives; longer pages of tags are slow there
            catalog=False,  # for system administrators only (goharbor/harbor#22118)
            list_api="harbor",
            create_first="project",  # google/go-containerregistry#1393
        ),
        Quirks(
            provider="gitlab",
            catalog=False,  # needs an administrator (goharbor/harbor's GitLab adapter uses the API)
            list_api="gitlab",
            token_lifetime=300,  # five minutes (gitlab-org/gitlab-foss#17890)
            tag_deletes=True,  # gitlab-org/container-registry, commit a72ecc08
            create_first="project",  # a path outside a project is denied (containers/skopeo#2484)
        ),
        Quirks(
            provider="artifactory",
            upload_mode="patch",  # one PUT with the blob is not taken (JFrog RTFACT-19344)
            head_403_is_missing=True,  # 403 where 404 is right (go-containerregistry PR 1691, RTFACT-13797)
            blob_head_trusted=False,  # HEAD 200 and GET 404 (gardener/cc-utils PR 1752)
            cancel_needs_delete=True,  # a second try wants the delete right (rust-oci-client#205)
        ),
        Quirks(
            provider="nexus",
            blob_head_trusted=False,  # the layer exists, then the manifest lacks it (nexus-public#264, #869)
        ),
        Quirks(
            provider="cloudflare",
            # 413 above 100 MB on the smaller plans (cloudflare/serverless-registry#42, #67).
            monolithic_max=95_000_000,
            chunk_bytes=95_000_000,
        ),
        Quirks(
            provider="pulp",
            upload_mode="patch",  # one PUT with the blob only since 2023 (pulp/pulp_container PR 1274)
        ),
    )
}

#: Hosts of services that have their names for themselves.
HOSTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.ASCII), provider)
    for pattern, provider in (
        (r"docker\.io|index\.docker\.io|registry-1\.docker\.io", "docker-hub"),
        (r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|on\.aws)", "ecr"),
        (r"public\.ecr\.aws|ecr-public\.aws\.com", "ecr-public"),
        (r"(?:[a-z]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev", "google"),
        (r"[a-z0-9-]+(?:\.[a-z0-9-]+\.data)?\.azurecr\.(?:io|cn|us)", "acr"),
        (r"ghcr\.io", "ghcr"),
        (r"quay\.io", "quay"),
        (r"registry\.gitlab\.com", "gitlab"),
        (r"[a-z0-9.-]+\.jfrog\.io", "artifactory"),
        (r"registry\.cloudflare\.com", "cloudflare"),
    )
)
#: The other hosts that may see a service's login because its listing API lives there, by the service's host.
API_HOSTS: Final[Mapping[str, str]] = {"registry.gitlab.com": "gitlab.com"}


@lru_cache(maxsize=1024)
def provider_of(host: str) -> str:
    """The row for `host`, by its name alone."""
    return next((name for pattern, name in HOSTS if pattern.fullmatch(host.lower())), "default")


def quirks_of(host: str, provider: str = "", said: Mapping[str, Any] | None = None) -> Quirks:
    """The row of `host`, or that of `provider`, with what the operator said on top.

    `said` maps names of `Quirks` to values; only those that are there count.
    """
    name = provider or provider_of(host)
    row = ROWS[name]
    api_host = API_HOSTS.get(host, row.api_host)
    words = dict(said or {})
    marks = frozenset(words) | ({"provider"} if provider else frozenset())
    return replace(row, **{"api_host": api_host, **words, "said": marks})


def recognised(quirks: Quirks, challenge: Challenge | None) -> Quirks:
    """`quirks`, or the row of the product that sends such a challenge, if the row was only the default.

    What the operator said stays, and so does `api_host`: a server does not choose who sees its login.
    """
    if challenge is None or quirks.provider != "default" or "provider" in quirks.said:
        return quirks
    product = _product(challenge.scheme, challenge.realm, challenge.service)
    return quirks if product == "default" else _instead(quirks, product)


@lru_cache(maxsize=256)
def _instead(quirks: Quirks, provider: str) -> Quirks:
    kept = {*quirks.said, "api_host", "said"}
    return replace(
        ROWS[provider], **{one.name: getattr(quirks, one.name) for one in fields(Quirks) if one.name in kept}
    )


def _product(scheme: str, realm: str, service: str) -> str:
    """The product by the words of its challenge, "default" when they are anybody's."""
    path = realm.lower().partition("?")[0]
    bearer, basic = scheme == "bearer", scheme == "basic"
    marks = (
        # harbor#12192, harbor#22118: `service="harbor-registry"`, Basic realm "harbor" once a login came.
        (
            "harbor",
            (bearer and service == "harbor-registry") or (basic and path in {"harbor", "harbor-registry"}),
        ),
        # GitLab: container registry administration, "auth.token.service: container_registry".
        ("gitlab", bearer and service == "container_registry" and path.endswith("/jwt/auth")),
        # quay/quay: the token endpoint of every installation.
        ("quay", bearer and path.endswith("/v2/auth")),
        # JFrog: "Artifactory Realm", and /artifactory/api/docker/<repository>/v2/token.
        ("artifactory", path == "artifactory realm" or (bearer and "/api/docker/" in path)),
        # Sonatype: "Sonatype Nexus Repository Manager".
        ("nexus", "sonatype nexus" in path),
    )
    return next((name for name, matches in marks if matches), "default")
