"""What is fuzzed: every parser that reads what a stranger wrote, with what its answer must always be.

A target takes bytes as they come off the wire. It may raise the typed errors it names, and nothing else; what
it returns is checked, since a parser that accepts nonsense is as bad as one that crashes. `corpus` holds
valid inputs and known oddities, `hints` the pieces from which the next oddity may be made.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from distworker.care.importing import DOCKER_FILE, LAYOUT_FILE, read_images
from distworker.care.tarball import TarArchive
from distworker.digest import Digest
from distworker.errors import (
    ArchiveInvalid,
    BlobUnknown,
    ConfigInvalid,
    Denied,
    DigestMismatch,
    InvalidReference,
    LimitExceeded,
    ManifestInvalid,
    ManifestTooLarge,
    ProtocolError,
    RedirectRefused,
    Schema1Unsupported,
    Throttled,
    Unauthorized,
    Unavailable,
    UnsupportedDigest,
)
from distworker.limits import BLOB_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN
from distworker.manifest import parse_manifest
from distworker.mediatypes import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from distworker.reference import Reference
from distworker.registry import challenge
from distworker.registry.budget import read_budget
from distworker.registry.call import Reply
from distworker.registry.faults import Where, read_problem
from distworker.registry.listing.pages import next_link
from distworker.registry.logins import entries
from distworker.registry.logins.google import read_key
from distworker.registry.logins.provider import read_answer
from distworker.registry.resume import Again, Judge
from distworker.registry.tokens import read_token
from distworker.registry.urls import origin_of, resolve
from distworker.retrying import parse_retry_after

BASE = "https://reg.example/v2/team/app/tags/list?n=1000"
NOW = 1_760_000_000.0
HEX = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Target:
    """One parser: `run` feeds it and checks its answer, `refusals` are the errors it may raise."""

    name: str
    run: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    corpus: tuple[bytes, ...]
    hints: tuple[bytes, ...] = ()

    def feed(self, data: bytes) -> None:
        """Run it once; anything but a refusal goes up."""
        try:
            self.run(data)
        except self.refusals:
            return


def _header(data: bytes) -> str:
    """Header values reach us as http.client decodes them."""
    return data.decode("latin-1")


def _challenge(data: bytes) -> None:
    found = challenge.parse([_header(part) for part in data.split(b"\n")])
    assert all(one.scheme and one.scheme == one.scheme.lower() for one in found)
    chosen = challenge.choose(found)
    assert chosen is None or chosen.scheme in {"bearer", "basic"}
    assert chosen is None or chosen.scheme == "basic" or chosen.realm


def _link(data: bytes) -> None:
    target = next_link([_header(data)])
    if target:
        _lands_well(target)


def _location(data: bytes) -> None:
    _lands_well(_header(data))


def _lands_well(target: str) -> None:
    origin = origin_of(resolve(BASE, target))
    assert origin.scheme == "https"
    assert origin.host and "@" not in origin.host
    assert 0 <= origin.port <= 65535


def _manifest(data: bytes) -> None:
    parsed = parse_manifest(data, OCI_MANIFEST if data[:1] == b"{" else "")
    assert parsed.raw == data
    assert parsed.digest == Digest.of(data)
    for one in (*parsed.blobs, *parsed.children):
        assert Digest.parse(str(one.digest)) == one.digest
        assert type(one.size) is int and 0 <= one.size <= BLOB_MAX


def _archive(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        archive = TarArchive(file)
        for name in (LAYOUT_FILE, DOCKER_FILE, "layer.tar"):
            size = archive.size(name)
            assert size is None or size == sum(len(chunk) for chunk in archive.chunks(name)) <= len(data)
        for image in read_images(archive):
            assert all(archive.size(name) for name in image.files.values())


def _saved(form: int) -> bytes:
    """What `docker save` writes, with a link, in a format of tar."""
    layer, out = b"content", io.BytesIO()
    config = _json({"rootfs": {"diff_ids": [Digest.of(layer)] * 2}})
    record = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["layer.tar", "a/layer.tar"]}]
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        files = {DOCKER_FILE: _json(record), "c.json": config, "layer.tar": layer, "n" * 200: b""}
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("a/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../layer.tar"
        tar.addfile(link)
    return out.getvalue().rstrip(b"\0") + bytes(1024)


def _reference(data: bytes) -> None:
    reference = Reference.parse(data.decode("utf-8", "surrogateescape"))
    assert Reference.parse(str(reference)) == reference
    assert str(reference).isascii()


def _token(data: bytes) -> None:
    token = read_token(data, (), NOW, 100.0)
    assert token.header.isascii() and token.header.isprintable()
    assert 100.0 < token.renew_at < 100.0 + 10**9


def _problem(data: bytes) -> None:
    problem = read_problem(data)
    assert len(problem.code) <= 60 and len(problem.text) <= 500
    assert problem.code.isprintable() and problem.text.isprintable()


def _retry_after(data: bytes) -> None:
    value, _, date = data.partition(b"\n")
    wait = parse_retry_after(_header(value), _header(date), NOW)
    assert wait is None or RETRY_AFTER_MIN <= wait <= RETRY_AFTER_MAX


SIZE, OFFSET = 1000, 400
_WHERE = Where("get blob", "reg.example", "team/app", f"sha256:{HEX}")


class _Partial:
    """A 206 with these Content-Range headers, as far as `Judge` looks at it."""

    status, length = 206, None
    origin = origin_of(BASE)

    def __init__(self, values: list[str]) -> None:
        self.values = values

    def header_values(self, name: str) -> list[str]:
        """The repeated header."""
        return self.values


def _content_range(data: bytes) -> None:
    values = [_header(part) for part in data.split(b"\n")]
    judge = Judge(_WHERE, _Partial.origin, SIZE)
    assert judge.accept(cast(Reply, _Partial(values)), OFFSET, True) == 0
    (value,) = values
    first, last, size = re.findall(r"[0-9]+|\*", value)
    assert (int(first), int(last)) == (OFFSET, SIZE - 1)
    assert size == "*" or int(size) == SIZE


def _budget(data: bytes) -> None:
    limit, _, rest = data.partition(b"\n")
    remaining, _, source = rest.partition(b"\n")
    headers = {"RateLimit-Limit": limit, "RateLimit-Remaining": remaining, "Docker-RateLimit-Source": source}
    budget = read_budget(lambda name: _header(headers[name]), NOW)
    if budget is not None:
        assert 0.0 <= budget.share <= 1.0
        assert budget.limit < 10**9 and budget.window < 10**9
        assert budget.source.isprintable() and len(budget.source) <= 60


def _credential_file(name: str) -> Callable[[bytes], None]:
    """The file as Kubernetes, docker or containers name it, every entry opened."""
    path = Path(name)

    def read(data: bytes) -> None:
        file = entries.parse(data.decode("utf-8", "replace"), path)
        file.find("reg.example", "team/app")
        for _, key, entry in file.entries:
            credential = entries.read_entry(entry, key, path)
            assert credential is None or "SECRET" not in repr(credential)

    return read


def _login_answer(data: bytes) -> None:
    status, _, body = data.partition(b"\n")
    number = int(status) if status.isdigit() and len(status) == 3 else 200
    token, life = read_answer((number, body), "access_token", "somebody", "reg.example", "the login")
    assert token.isascii() and token.isprintable() and token
    assert 0 <= life < 10**9


def _service_account(data: bytes) -> None:
    key = read_key(data.decode("utf-8", "replace"), "key.json")
    assert key.token_uri.startswith("https://")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_CONFIG = {"mediaType": DOCKER_CONFIG, "digest": f"sha256:{HEX}", "size": 2}
_LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": f"sha256:{HEX[::-1]}",
    "size": 9,
}
_IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _CONFIG, "layers": [_LAYER]}
_CHILD = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{HEX}", "size": 500, "platform": {"os": "linux"}}
_HINTS_JSON = (
    *(b'"', b"\\", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e3", b"NaN"),
    *(b"9" * 40, b'"size":', b'"digest":', b'"manifests":[]', b'"Layers":[]', b'"fsLayers":[]', b"[" * 200),
    *(b'{"a":' * 70, b'"sha256:../../x"', b'"sha512:' + b"a" * 128 + b'"', b"\xff", b"\x00"),
)

_PAIR = base64.b64encode(b"me:SECRET:word").decode()
_LOGIN_FILES = (
    _json({"auths": {"reg.example": {"auth": _PAIR}, "https://index.docker.io/v1/": {}}}),
    _json(
        {"auths": {"reg.example/team": {"username": "me", "password": "SECRET", "identitytoken": "SECRET"}}}
    ),
    _json({"credHelpers": {"reg.example": "pass"}, "credsStore": "secretservice"}),
    _json(
        {"auths": {"*.reg.example": {"registrytoken": "SECRET"}, "reg?.example.com:5000/a": {"auth": _PAIR}}}
    ),
    _json({"https://reg.example/v1/": {"auth": _PAIR, "email": "a@b"}}),
    b"apiVersion: v1\nkind: Secret\ndata:\n  .dockerconfigjson: " + base64.b64encode(_json({"auths": {}})),
    b'kind: Secret\nstringData:\n  .dockercfg: \'{"reg.example": {"auth": "bWU6U0VDUkVU"}}\'\n',
)
_HINTS_LOGIN = (
    *(
        b'"auth":',
        b'"auths":',
        b'"reg.example":',
        b"*",
        b"?",
        b"[a]",
        b"a*" * 20,
        b"bWU6cHc=",
        b"kind: Secret\n",
    ),
    *(
        b"&a ",
        b"*a",
        b"!!python/object:x ",
        b"2001-01-01",
        b"- ",
        b": ",
        b"\t",
        b"<<: ",
        b"https://",
        b"/v2/",
    ),
    *_HINTS_JSON,
)

#: A real one, so that changes reach past the parser of its wrapping.
PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
)

TARGETS = (
    Target(
        "challenge",
        _challenge,
        (),
        (
            b'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            b'scope="repository:samalba/my-app:pull,push"',
            b'Basic realm="a, b", Bearer realm="https://t/",service="s"',
            b'Negotiate YWJjZA==, Bearer realm=https://t/token, service=s\nBASIC realm="x"',
            b'Bearer realm="https://t/?a=b&c=d",error="insufficient_scope"',
            b'Bearer realm="https:\\/\\/t\\/',
        ),
        (
            b'"',
            b"\\",
            b"=",
            b",",
            b" ",
            b"\t",
            b"Bearer ",
            b"Basic ",
            b'realm="',
            b"scope=",
            b"\n",
            b"," * 99,
        ),
    ),
    Target(
        "link",
        _link,
        (ProtocolError, RedirectRefused),
        (
            b'</v2/a/tags/list?next_page=x%3D>; rel="next"',
            b"https://reg.example/v2/a/tags/list?last=b&n=1; rel=next",
            b'<?a>; rel="prev", </v2/a,b>; title="x"; rel="next last"',
        ),
        (
            b"<",
            b">",
            b";",
            b",",
            b'"',
            b'rel="next"',
            b"rel=next",
            b"//evil/",
            b"http:",
            b"@",
            b"[::1]",
            b";" * 50,
        ),
    ),
    Target(
        "location",
        _location,
        (ProtocolError, RedirectRefused),
        (
            b"/v2/a/blobs/uploads/1?_state=a%2Bb%3D%3D",
            b"https://store.example/x?X-Amz-Signature=1",
            b"reg.example:5000/v2/a/blobs/uploads/1",
            b"http://reg.example/v2/",
        ),
        (
            b"//",
            b"..",
            b"@",
            b"\\",
            b"#",
            b"?",
            b"[",
            b"]",
            b":0",
            b":99999",
            b"file:",
            b"%00",
            b"\r\n",
            b"\xe9",
        ),
    ),
    Target(
        "manifest",
        _manifest,
        (ManifestInvalid, ManifestTooLarge, LimitExceeded, Schema1Unsupported, UnsupportedDigest),
        (
            _json(_IMAGE),
            json.dumps(
                {**_IMAGE, "mediaType": DOCKER_MANIFEST, "annotations": {"é": "\ud800"}}, indent=3
            ).encode(),
            _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_CHILD, _CHILD]}),
            _json({**_IMAGE, "artifactType": "a/b", "subject": _CHILD, "layers": [], "urls": ["https://x/"]}),
            _json({"schemaVersion": 1, "fsLayers": [{"blobSum": f"sha256:{HEX}"}]}),
        ),
        _HINTS_JSON,
    ),
    Target(
        "reference",
        _reference,
        (InvalidReference, UnsupportedDigest),
        (
            b"alpine",
            b"registry.example.com:5000/team/app:1.0",
            f"ghcr.io/org/app:v1@sha256:{HEX}".encode(),
            b"[2001:db8::1]:5000/repo:tag",
            b"localhost:5000/a/b__c/d---e/f.g:_tag",
        ),
        (
            b"/",
            b":",
            b"@",
            b"@sha256:",
            b"@md5:00",
            b"..",
            b"__",
            b"[",
            b"]",
            b"://",
            b"\n",
            b"\xff",
            b"A",
            b"a" * 256,
        ),
    ),
    Target(
        "token answer",
        _token,
        (ProtocolError,),
        (
            _json({"token": "abc.def", "expires_in": 300, "issued_at": "2025-10-09T08:53:20Z"}),
            _json({"access_token": "x", "expires_in": 10, "issued_at": "2025-10-09T08:53:20+00:00"}),
            _json({"token": "", "access_token": "y", "expires_in": None}),
        ),
        (
            *_HINTS_JSON,
            b"1e999",
            b'"token":',
            b'"issued_at":',
            b"0001-01-01T00:00:00",
            b"9999-12-31T23:59:59-23:59",
        ),
    ),
    Target(
        "error body",
        _problem,
        (),
        (
            _json({"errors": [{"code": "DENIED", "message": "no", "detail": {"a": 1}}]}),
            _json({"message": "You have reached your pull rate limit."}),
            _json({"errors": [{"code": 5, "message": ["a"]}]}),
            b"<html><body>502 Bad Gateway</body></html>",
            b"Too Many Requests (HAP429).",
            b"\x1b[31mred\x1b[0m https://x/?sig=SECRET",
        ),
        (
            *_HINTS_JSON,
            b"<",
            b">",
            b"\x1b[2J",
            b"\xe2\x80\xae",
            b"\r\n",
            b"?token=",
            b'"code":',
            b'"errors":',
        ),
    ),
    Target(
        "Retry-After",
        _retry_after,
        (),
        (
            b"120\nWed, 21 Oct 2025 07:28:00 GMT",
            b"Wed, 21 Oct 2025 07:28:00 GMT\nWed, 21 Oct 2025 07:27:00 GMT",
            b"1746136938\n",
            b"1.5\n",
            b"Sunday, 06-Nov-94 08:49:37 GMT\nSun Nov  6 08:49:37 1994",
        ),
        (b"Wed, ", b"-1", b"9" * 30, b" GMT", b" +9999", b"31 Feb 0000", b"99999", b":", b"\n", b" "),
    ),
    Target(
        "Content-Range",
        _content_range,
        (Again,),
        (
            b"bytes 400-999/1000",
            b"bytes 400-999/*",
            b"bytes 400-999/1000\nbytes 400-999/1000",
            b"bytes 0-599/600",
        ),
        (
            b"bytes ",
            b"-",
            b"/",
            b"*",
            b"400",
            b"999",
            b"1000",
            b"9" * 30,
            b" ",
            b"\n",
            b"\xb2",
            b"multipart/byteranges",
        ),
    ),
    Target(
        "image archive",
        _archive,
        (ArchiveInvalid, BlobUnknown, DigestMismatch, LimitExceeded, ManifestInvalid),
        tuple(_saved(form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
        (b"../", b"/", b"\0", b"L", b"x", b"2", b"5", b"7" * 11, b"\x80", b"\xff", b"30 path=", b"9" * 20),
    ),
    Target(
        "rate limit",
        _budget,
        (),
        (b"100;w=21600\n20;w=21600\n192.0.2.1", b"100\n0\n", b"0;w=0\n5;w=1\nx"),
        (b";w=", b"9" * 12, b"-1", b"\n", b" ", b"\xb2", b"\x1b[2J", b"1e3"),
    ),
    Target(
        "login answer",
        _login_answer,
        (Unauthorized, Denied, Throttled, Unavailable, ProtocolError),
        (
            b"200\n" + _json({"access_token": "abc", "expires_in": 3600}),
            b"200\n" + _json({"access_token": "abc", "expires_in": "3600"}),
            b"400\n" + _json({"error": "invalid_grant", "error_description": "no"}),
            b"503\n<html>",
        ),
        (*_HINTS_JSON, b"401", b"429", b"1e999", b'"access_token":'),
    ),
    Target(
        "service account",
        _service_account,
        (ConfigInvalid,),
        (
            _json(
                {
                    **{"type": "service_account", "client_email": "a@b", "private_key_id": "1"},
                    **{"token_uri": "https://oauth2.example/token", "private_key": PEM},
                }
            ),
        ),
        (*_HINTS_JSON, b"\\n", b"-----", b"http:", b'"type":'),
    ),
    *(
        Target(f"login file {name}", _credential_file(name), (ConfigInvalid,), _LOGIN_FILES, _HINTS_LOGIN)
        for name in ("config.json", "auth.json", "x.dockerconfigjson")
    ),
)
