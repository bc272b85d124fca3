"""The table of registries: which row a host gets, what challenge and operator change, what page shows it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.limits import MANIFEST_MAX_PULL, MIB
from distworker.registry.challenge import Challenge, choose, parse
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.providers import API_HOSTS, HOSTS, ROWS, provider_of, quirks_of, recognised
from distworker.registry.quirks import INFORMATIVE, Quirks
from distworker.settings_registry import QuirkSettings
from tests.fakes.registry_token import FakeTokenServer
from tests.unit.registry.conftest import Rig

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/registries.md").read_text(encoding="utf-8")
NOT_SHOWN = {"provider", "said"}


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("docker.io", "docker-hub"),
        ("index.docker.io", "docker-hub"),
        ("registry-1.docker.io", "docker-hub"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr"),
        ("public.ecr.aws", "ecr-public"),
        ("gcr.io", "google"),
        ("eu.gcr.io", "google"),
        ("europe-west1-docker.pkg.dev", "google"),
        ("myteam.azurecr.io", "acr"),
        ("ghcr.io", "ghcr"),
        ("quay.io", "quay"),
        ("registry.gitlab.com", "gitlab"),
        ("team.jfrog.io", "artifactory"),
        ("QUAY.IO", "quay"),
        ("registry.example.com", "default"),
        ("localhost:5000", "default"),
        ("quay.io:8443", "default"),
        ("ghcr.io.evil.example", "default"),
        ("evil-ghcr.io", "default"),
        ("docker.io.example", "default"),
        ("x.dkr.ecr.eu-west-1.amazonaws.com", "default"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", "default"),
        ("quay.io\n", "default"),
    ],
)
def test_services_are_known_by_their_whole_host_name(host: str, provider: str) -> None:
    """A name that only looks alike is nobody's."""
    assert provider_of(host) == provider
    assert quirks_of(host).provider == provider


def test_every_row_is_sane() -> None:
    """Names agree, numbers are within what the client can do, every pattern leads to a row."""
    assert {provider for _, provider in HOSTS} <= set(ROWS)
    assert ROWS["default"] == Quirks()
    for name, row in ROWS.items():
        assert row.provider == name
        assert row.said == frozenset()
        assert 1 <= row.page_size <= 10_000
        assert 1 << 16 <= row.chunk_bytes <= 256 * MIB
        assert 0 < row.manifest_max <= MANIFEST_MAX_PULL
        assert row.monolithic_max == 0 or row.chunk_bytes <= row.monolithic_max


def test_a_registry_that_nobody_named_gets_its_row() -> None:
    """The pool looks it up; a profile of the operator's is taken as it is."""
    mine = HostProfile(plain_http=True)
    pool = RegistryPool({"quay.io": mine})
    assert pool.profile("ghcr.io").quirks == ROWS["ghcr"]
    assert pool.profile("index.docker.io").quirks == ROWS["docker-hub"]
    assert pool.profile("r.example").quirks == Quirks()
    assert pool.profile("quay.io") is mine
    pool.close()


def test_only_hosted_services_have_an_api_elsewhere() -> None:
    """By their host name alone: nobody's challenge opens another host to a login."""
    assert quirks_of("registry.gitlab.com").api_host == "gitlab.com"
    assert quirks_of("gitlab.example", "gitlab").api_host == ""
    assert {name for name, row in ROWS.items() if row.api_host} == {"docker-hub", "ghcr"}
    assert set(API_HOSTS) == {"registry.gitlab.com"}


def test_the_operator_has_the_last_word() -> None:
    """Single cells, or the whole row."""
    told = quirks_of("quay.io", said={"page_size": 50, "catalog": False})
    assert told == replace(
        ROWS["quay"], page_size=50, catalog=False, said=frozenset({"page_size", "catalog"})
    )
    assert quirks_of("r.example", "harbor").list_api == "harbor"
    assert quirks_of("quay.io", "default").page_size == 1000


def test_the_upload_mode_of_a_profile_is_the_one_that_counts() -> None:
    """Anything but "auto" replaces the row's."""
    assert HostProfile(upload_mode="chunked").quirks.upload_mode == "chunked"
    assert HostProfile(quirks=ROWS["ghcr"]).quirks.upload_mode == "monolithic"
    told = HostProfile(upload_mode="patch", quirks=ROWS["ghcr"]).quirks
    assert told == replace(ROWS["ghcr"], upload_mode="patch", said=frozenset({"upload_mode"}))
    told = quirks_of("ghcr.io", said={"upload_mode": "auto"})
    assert HostProfile(quirks=told).quirks.upload_mode == "auto"


CHALLENGES = {
    'Bearer realm="https://h.example/service/token",service="harbor-registry"': "harbor",
    'Basic realm="harbor"': "harbor",
    'Bearer realm="https://gitlab.example/jwt/auth",service="container_registry",scope="x"': "gitlab",
    'Bearer realm="https://q.example/v2/auth",service="q.example"': "quay",
    'Basic realm="Artifactory Realm"': "artifactory",
    'Bearer realm="https://a.example/artifactory/api/docker/null/v2/token",service="a"': "artifactory",
    'BASIC realm="Sonatype Nexus Repository Manager"': "nexus",
    'Bearer realm="https://auth.example/token",service="registry.example"': "default",
    'Bearer realm="https://auth.example/jwt/auth",service="other"': "default",
    'Basic realm="Registry Realm"': "default",
    'Bearer realm="https://auth.example/token?x=/v2/auth",service="x"': "default",
}


@pytest.mark.parametrize("header", CHALLENGES)
def test_products_are_known_by_their_challenge(header: str) -> None:
    """As far as it is theirs alone."""
    assert recognised(Quirks(), choose(parse([header]))).provider == CHALLENGES[header]


def test_a_challenge_does_not_overrule_what_is_known() -> None:
    """Neither a host's own row nor the operator's word, and it names no other host."""
    harbor = choose(parse(['Basic realm="harbor"']))
    assert recognised(ROWS["ghcr"], harbor) is ROWS["ghcr"]
    plain = quirks_of("r.example", "default")
    assert recognised(plain, harbor) is plain
    told = quirks_of("r.example", said={"page_size": 7, "api_host": "api.example"})
    seen = recognised(told, harbor)
    assert seen == replace(
        ROWS["harbor"], page_size=7, api_host="api.example", said=frozenset({"page_size", "api_host"})
    )
    assert recognised(told, None) is told


@given(st.text(max_size=80), st.text(max_size=80), st.sampled_from(["bearer", "basic", "x"]))
def test_no_challenge_opens_another_host(realm: str, service: str, scheme: str) -> None:
    """Whatever a server says."""
    seen = recognised(Quirks(), Challenge(scheme, {"realm": realm, "service": service}))
    assert seen.api_host == ""
    assert seen.provider in ROWS


def test_a_client_learns_the_product_from_the_first_challenge(rig: object) -> None:
    """From then on it asks as that product likes it."""
    tokens = FakeTokenServer({"me": "SECRET-PASSWORD"})
    tokens.service = "harbor-registry"
    r: Rig = rig(login=("me", "SECRET-PASSWORD"), tokens=tokens)  # type: ignore[operator]
    r.fake.put_manifest("a/b", b"{}", "x/y", "v1")
    assert r.client._at.quirks.provider == "default"  # type: ignore[attr-defined]
    assert list(r.client.tags("a/b")) == ["v1"]
    assert r.client._at.quirks.provider == "harbor"  # type: ignore[attr-defined]
    r.fake.seen.clear()
    assert list(r.client.tags("a/b")) == ["v1"]
    assert [one.query for one in r.fake.seen] == ["n=100"]
    assert type(r.client.listing()).__name__ == "HarborListing"  # type: ignore[attr-defined]


# --- the page, and the settings -----------------------------------------------------------------------------


def cells(section: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by what stands in backquotes in their first cell."""
    body = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in body.splitlines()
        if line[:3] == "| `"
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


def shown(value: object) -> str:
    """A value as the page writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value) or "empty"


def test_the_page_shows_the_table() -> None:
    """Every row, and every cell in which it differs from the default."""
    plain = Quirks()
    assert {
        name: dict(re.findall(r"`([a-z0-9_]+)` ([^,]+)", row[1])) for name, row in cells("Rows").items()
    } == {
        name: {
            one.name: shown(getattr(row, one.name))
            for one in fields(Quirks)
            if one.name not in NOT_SHOWN and getattr(row, one.name) != getattr(plain, one.name)
        }
        for name, row in ROWS.items()
    }


def test_the_hosts_on_the_page_are_those_of_the_table() -> None:
    """Each example is known by the code as the page says."""
    examples = {"<account>": "123456789012", "<region>": "eu-west-1", "*": "x"}
    named = set()
    for provider, row in cells("Rows").items():
        for host in re.findall(r"`([^`]+\.[^`]+)`", row[0]):
            for mark, value in examples.items():
                host = host.replace(mark, value)  # noqa: PLW2901
            assert provider_of(host) == provider
            named.add(provider)
    assert named == {provider for _, provider in HOSTS}


def test_the_page_explains_every_quirk_with_its_default() -> None:
    """And none that does not exist."""
    plain = Quirks()
    assert {name: row[0] for name, row in cells("Quirks").items()} == {
        one.name: shown(getattr(plain, one.name)) for one in fields(Quirks) if one.name not in NOT_SHOWN
    }


def test_every_quirk_can_be_set() -> None:
    """In `quirks` of registries.toml, or beside it; only what no code asks cannot."""
    beside = {"upload_mode", "max_concurrency"}
    settable = {one.name for one in fields(Quirks)} - NOT_SHOWN - beside - INFORMATIVE
    assert set(QuirkSettings.model_fields) == settable


def test_every_quirk_that_can_be_set_is_asked_by_the_client() -> None:
    """A setting that changes nothing would be a lie."""
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "distworker/registry").rglob("*.py")
        if path.name not in ("quirks.py", "providers.py")
    )
    asked = set(re.findall(r"(?:quirks|quirks\(\)|rules)\.([a-z0-9_]+)", sources))
    assert set(QuirkSettings.model_fields) - asked == set()
    assert INFORMATIVE & asked == set()
