"""Certificates of every kind that TLS tests need: an authority, and what it issues for both sides."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def names(self) -> tuple[str, str]:
        """Both paths as text."""
        return str(self.certificate), str(self.key)


class Issuer:
    """An authority: `ca_file` is what the other side trusts."""

    def __init__(self, folder: Path, name: str = "ours") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca_file = folder / f"{name}-ca.pem"
        self.ca_file.write_bytes(_pem(self._certificate(name, self._key, (), (-1, 2))))

    def issue(
        self, title: str, *names: str, days: tuple[int, int] = (-1, 2), passphrase: bytes = b""
    ) -> Pair:
        """A pair called `title`, good for these names and addresses from so many days to so many days from
        now."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(title, key, names or ("client.example",), days)
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            lock = serialization.BestAvailableEncryption(passphrase)
        pair = Pair(self._folder / f"{title}.cert", self._folder / f"{title}.key")
        pair.certificate.write_bytes(_pem(made))
        pair.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        )
        return pair

    def _certificate(
        self, subject: str, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], days: tuple[int, int]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            general = [_general(name) for name in names]
            made = made.add_extension(x509.SubjectAlternativeName(general), critical=False)
        return made.sign(self._key, hashes.SHA256())


def server_side(pair: Pair, clients: Path | None = None) -> ssl.SSLContext:
    """What a server shows; with `clients` it wants a certificate from that authority (and speaks TLS 1.2, in
    which a refusal is part of the handshake)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair.names)
    if clients is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients)
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    return made


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
