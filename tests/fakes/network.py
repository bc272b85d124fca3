"""A network of the test's own: names, addresses and who listens there. Nothing leaves this machine.

`FakeWires` takes the place of the machine's resolver and sockets under the client's door. Addresses may be
any (public ones too), so the address policy is tested as it is; a connection to an address where a fake
server was put ends at that server's loopback port, one to any other address is refused; all are recorded.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from distworker.registry.door import Target
from tests.fakes.registry_server import FakeServer


class FakeWires:
    """See the module text. `dialled` has (address, port) of each connection tried, in order."""

    def __init__(self) -> None:
        self.dialled: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self._troubles: dict[str, list[OSError]] = {}
        self._names: dict[str, list[str]] = {}
        self._servers: dict[tuple[str, int], FakeServer | OSError] = {}

    def name(self, host: str, *addresses: str) -> None:
        """What `host` resolves to from now on, in this order."""
        self._names[host] = list(addresses)

    def serve(self, address: str, port: int, server: FakeServer | OSError) -> None:
        """Who listens at this address; an OSError is raised to whoever connects."""
        self._servers[address, port] = server

    def trouble(self, place: str, *faults: OSError) -> None:
        """What happens to the next look-ups of a name (gaierror), or the next connections to an address. A
        `ConnectionResetError` lets the connection open and drops it before a byte is said.
        """
        self._troubles.setdefault(place, []).extend(faults)

    def _trouble(self, place: str) -> OSError | None:
        waiting = self._troubles.get(place)
        return waiting.pop(0) if waiting else None

    def resolve(self, host: str, port: int) -> Sequence[Target]:
        """See `door.Wires`. Besides names it knows every spelling of an address that the C library knows."""
        self.asked.append(host)
        if fault := self._trouble(host):
            raise fault
        found = self._names.get(host.lower(), []) or _spelled(host)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(_family(address), (address, port)) for address in found]

    def connect(self, target: Target, timeout: float) -> socket.socket:
        """See `door.Wires`."""
        address, port = str(target[1][0]), int(target[1][1])
        self.dialled.append((address, port))
        fault = self._trouble(address)
        if isinstance(fault, ConnectionResetError):
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours
        if fault is not None:
            raise fault
        there = self._servers.get((address, port))
        if isinstance(there, OSError):
            raise there
        if there is None:
            raise ConnectionRefusedError(111, "Connection refused")
        there.start()  # a world has more servers than most cases need
        return socket.create_connection(there.address, timeout)


def _spelled(host: str) -> list[str]:
    """The address that `127.1`, `0x7f.1`, `2130706433`, `::1` and their like mean."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            return []


def _family(address: str) -> int:
    return int(socket.AF_INET6 if ":" in address else socket.AF_INET)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the tests: `ca_file` is what clients trust, `server` what servers show."""

    ca_file: Path
    server: ssl.SSLContext


def make_authority(folder: Path, *names: str) -> Authority:
    """A new authority, and a server certificate of its for these names and addresses."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("test authority", ca_key.public_key(), "test authority", ca_key, ())
    leaf = _certificate("test server", key.public_key(), "test authority", ca_key, names)
    ca_file, pair = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return Authority(ca_file, context)


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(
            x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
        )
    return made.sign(signer, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
