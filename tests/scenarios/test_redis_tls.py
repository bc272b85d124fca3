"""Redis behind TLS: ledger and broker check who is there, and show who they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, Valkey
from distworker.errors import StateRefused, StateUnavailable
from distworker.service.broker import broker_of
from distworker.service.submit import Producer
from distworker.state.address import Access
from distworker.state.ledger import RedisLedger
from tests.fakes.certificates import Issuer, server_side
from tests.fakes.tls_front import TLSFront
from tests.images import digest_at, push_image
from tests.scenarios.fleet import Fleet

pytestmark = pytest.mark.servers


@dataclass
class Secured:
    """Valkey behind a front with a certificate for 127.0.0.1; stands in a fleet where Valkey does."""

    valkey: Valkey
    port: int
    issuer: Issuer

    def url(self, database: int = 0) -> str:
        """Its address."""
        return f"rediss://127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """The fixture stops it."""


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Whoever makes the certificates."""
    return Issuer(tmp_path)


@pytest.fixture
def secured(valkey: Valkey, issuer: Issuer) -> Iterator[Secured]:
    """The run's Valkey, behind TLS, which wants a certificate of its clients too."""
    shown = issuer.issue("server", "127.0.0.1")
    with TLSFront(valkey.port, server_side(shown, clients=issuer.ca_file)) as front:
        yield Secured(valkey, front.port, issuer)


def reached(url: str, access: Access) -> list[type[Exception] | None]:
    """How the ledger and the broker fare: None where all is well."""
    ledger, producer = RedisLedger(url, access=access), Producer.connect(broker_of(url, "t:", access))
    found: list[type[Exception] | None] = []
    for attempt in (ledger.check, producer.ping):
        try:
            attempt()
            found.append(None)
        except StateUnavailable as error:
            found.append(type(error))
    ledger.close()
    producer.close()
    return found


def test_ledger_and_broker_take_no_certificate_that_they_cannot_check(
    valkey: Valkey, issuer: Issuer, tmp_path: Path
) -> None:
    """An unknown authority, and another name than the one that was asked for."""
    trusting = Access(ca_file=str(issuer.ca_file))
    with TLSFront(valkey.port, server_side(issuer.issue("server", "127.0.0.1"))) as front:
        url = f"rediss://127.0.0.1:{front.port}/9"
        assert reached(url, trusting) == [None, None]
        assert reached(url, Access()) == [StateRefused, StateUnavailable]
        with pytest.raises(StateRefused, match="trust its authority with redis_ca_file"):
            RedisLedger(url).check()
    with TLSFront(valkey.port, server_side(issuer.issue("other", "other.example"))) as front:
        assert reached(f"rediss://127.0.0.1:{front.port}/9", trusting) == [StateRefused, StateUnavailable]


def test_a_server_that_wants_to_know_its_clients_is_shown_the_certificate(secured: Secured) -> None:
    """Without one nothing is done."""
    trusting = Access(ca_file=str(secured.issuer.ca_file))
    assert reached(secured.url(9), trusting) == [StateUnavailable, StateUnavailable]
    own = secured.issuer.issue("client")
    known = Access(str(secured.issuer.ca_file), str(own.certificate), str(own.key))
    assert reached(secured.url(9), known) == [None, None]


def test_a_fleet_works_behind_tls(
    secured: Secured, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Worker, command line and broker with the same few settings; files count from the settings' folder."""
    source, destination = ends
    own = secured.issuer.issue("fleet")
    image = push_image(tmp_path / "image", f"{source.host}/app:1")
    table = f'[store]\nkind = "local"\nfolder = "{tmp_path / "store"}"\n'
    fleet = Fleet(tmp_path / "fleet", secured, table)  # type: ignore[arg-type]
    fleet.more = (
        f'redis_ca_file = "../../{secured.issuer.ca_file.name}"\n'
        f'redis_client_cert = "{own.certificate}"\nredis_client_key = "{own.key}"\nredis_prefix = "tls"\n'
    )
    for server in ends:
        fleet.know(server.host)
    try:
        fleet.start_workers(1)
        ran = fleet.run("copy", image.reference, f"{destination.host}/app:1", "--json")
    finally:
        fleet.stop()
    assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/app:1") == image.digest
    assert "insecure" not in fleet.logs()
