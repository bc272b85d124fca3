"""Folders of certificates in docker's and containers' manner: which one counts, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distworker.errors import ConfigInvalid, TLSError
from distworker.registry import tls
from distworker.registry.hostfiles.certsd import Certificates, certificates, folder_for
from distworker.registry.hostfiles.router import HostFiles
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.tls import TLSFiles
from tests.fakes.certificates import Issuer, server_side
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import FakeServer
from tests.unit.registry.conftest import fails


def have(root: Path, *names: str) -> None:
    """Empty files below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_is_for_exactly_one_host_and_port(tmp_path: Path) -> None:
    """No suffix, no wildcard, no other port."""
    have(tmp_path, "r.example/ca.crt", "r.example:5000/ca.crt", "[::1]:5000/ca.crt")
    roots = [str(tmp_path)]
    assert folder_for(roots, "r.example") == f"{tmp_path}/r.example"
    assert folder_for(roots, "r.example:5000") == f"{tmp_path}/r.example:5000"
    assert folder_for(roots, "[::1]:5000") == f"{tmp_path}/[::1]:5000"
    for other in ("r.example:5001", "a.r.example", "example", "..", "r.example/..", ""):
        assert folder_for(roots, other) == "", other


def test_docker_hub_goes_by_any_of_its_names(tmp_path: Path) -> None:
    """docker.io is a name, registry-1.docker.io where it answers; both are in use."""
    have(tmp_path, "one/registry-1.docker.io/ca.crt", "two/docker.io/ca.crt")
    for host in ("docker.io", "registry-1.docker.io"):
        assert folder_for([f"{tmp_path}/one"], host) == f"{tmp_path}/one/registry-1.docker.io"
        assert folder_for([f"{tmp_path}/two"], host) == f"{tmp_path}/two/docker.io"


def test_the_first_root_that_has_the_host_counts(tmp_path: Path) -> None:
    """A user's folder goes before the machine's; a root that is missing or closed has nothing."""
    have(tmp_path, "user/r.example/ca.crt", "system/r.example/ca.crt", "system/s.example/ca.crt", "file")
    roots = [f"{tmp_path}/{name}" for name in ("gone", "file", "user", "system")]
    assert folder_for(roots, "r.example") == f"{tmp_path}/user/r.example"
    assert folder_for(roots, "s.example") == f"{tmp_path}/system/s.example"
    assert folder_for(roots, "x" * 5000) == ""


def test_authorities_and_pairs_are_told_apart_by_their_endings(tmp_path: Path) -> None:
    """Whatever else lies there is somebody else's."""
    have(tmp_path, "b.crt", "a.crt", "me.cert", "me.key", "README", "ca.pem")
    assert certificates(str(tmp_path)) == Certificates(
        (f"{tmp_path}/a.crt", f"{tmp_path}/b.crt"), ((f"{tmp_path}/me.cert", f"{tmp_path}/me.key"),)
    )


@pytest.mark.parametrize(("there", "missing"), [("me.cert", "me.key"), ("me.key", "me.cert")])
def test_half_a_pair_names_the_other_half(tmp_path: Path, there: str, missing: str) -> None:
    """And what an authority would have to be called."""
    have(tmp_path, there, "other.cert", "other.key")
    with pytest.raises(ConfigInvalid, match=rf"{there}: {missing} is missing beside it"):
        certificates(str(tmp_path))


def test_several_pairs_are_refused(tmp_path: Path) -> None:
    """Python shows one per context; which one would be chance."""
    have(tmp_path, "a.cert", "a.key", "b.cert", "b.key")
    with pytest.raises(ConfigInvalid, match=r"a\.cert, .*b\.cert; keep one"):
        tls.contexts(TLSFiles(folders=(str(tmp_path),)))


def test_a_folder_that_went_away_is_named(tmp_path: Path) -> None:
    """Between being found and being read."""
    with pytest.raises(ConfigInvalid, match="gone: cannot be listed"):
        certificates(f"{tmp_path}/gone")


def test_a_registry_is_reached_with_what_its_folder_holds(
    tmp_path: Path,
    serve: Callable[[FakeServer], FakeServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its authority is trusted and the pair shown; a file that is added later is taken up."""
    monkeypatch.setattr("distworker.registry.tls.TLS_LOOK_SECONDS", 0.0)
    issuer = Issuer(tmp_path)
    context = server_side(issuer.issue("server", "127.0.0.1"), clients=issuer.ca_file)
    server = FakeRegistry()
    server.known_as(f"127.0.0.1:{server.address[1]}", context)
    serve(server)
    folder = tmp_path / "certs.d" / server.host
    folder.mkdir(parents=True)
    pair = issuer.issue("worker")
    (folder / "client.cert").write_bytes(pair.certificate.read_bytes())
    (folder / "client.key").write_bytes(pair.key.read_bytes())
    pool = RegistryPool(
        {server.host: HostProfile(private=True)}, files=HostFiles(certs_dirs=(str(tmp_path / "certs.d"),))
    )
    client = pool.client(server.host)
    with fails(TLSError):
        client.ping()
    (folder / "ca.crt").write_bytes(issuer.ca_file.read_bytes())
    client.ping()
    assert server.lines() == ["GET /v2/"]
    pool.close()
