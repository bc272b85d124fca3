"""Stores that fail: every fault becomes one typed error with a clear sentence, and the first error is the one
seen."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distworker.blobstore.base import BlobStore, Unfinished
from distworker.blobstore.keys import blob_key
from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.digest import Digest, Verified, verify_bytes
from distworker.errors import (
    ConfigInvalid,
    DigestMismatch,
    InvalidRequest,
    StoreFull,
    StoreUnavailable,
    from_dict,
)
from tests.fakes.s3 import OK, Answer, ScriptedS3

MIB = 1024 * 1024
SECRET = "the-secret-key-of-the-test"
BUSY = Answer(503, "SlowDown")
FAILED = Answer(500, "InternalError")


@pytest.fixture
def server() -> Iterator[ScriptedS3]:
    """An S3 server that does as told."""
    with ScriptedS3() as server:
        yield server


@pytest.fixture
def s3(server: ScriptedS3) -> Iterator[S3Store]:
    """The S3 adapter on it, trying once and waiting briefly."""
    store = S3Store(options(server.endpoint))
    yield store
    store.close()


def options(endpoint: str, attempts: int = 1) -> S3Options:
    """Small parts, short patience."""
    return S3Options(
        "bucket",
        endpoint=endpoint,
        access_key="the-access-key",
        secret_key=SECRET,
        part_size=5 * MIB,
        attempts=attempts,
        connect_timeout=2,
        read_timeout=0.3,
    )


def write(store: BlobStore, size: int) -> None:
    """Write a blob of `size` bytes from start to commit."""
    data = os.urandom(size)
    digest = Digest.of(data)
    with store.writer(blob_key("default", digest), digest, size, "claim1") as writer:
        writer.write(data)
        writer.commit(verify_bytes(data, digest))


SMALL, BIG = 1000, 12 * MIB


@pytest.mark.parametrize(
    ("operation", "size"), [("put", SMALL), ("create", BIG), ("part", BIG), ("complete", BIG)]
)
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (FAILED, StoreUnavailable, "the server failed"),
        (BUSY, StoreUnavailable, "overloaded"),
        (Answer(507, "InsufficientStorage"), StoreFull, "no room"),
        (Answer(413, "EntityTooLarge"), StoreFull, "no room"),
        (Answer(403, "QuotaExceeded"), StoreFull, "no room"),
        (Answer(507, "XMinioStorageFull"), StoreFull, "no room"),
        (Answer(403, "AccessDenied"), StoreUnavailable, "the key needs to"),
        (Answer(403, "InvalidAccessKeyId"), StoreUnavailable, "correct the access key"),
        (Answer(403, "SignatureDoesNotMatch"), StoreUnavailable, "correct them"),
        (Answer(404, "NoSuchBucket"), StoreUnavailable, "create it"),
        (Answer(broken=True), StoreUnavailable, "connection failed"),
        (Answer(silent=True), StoreUnavailable, "no answer"),
    ],
    ids=lambda value: value.code or "gone" if isinstance(value, Answer) else None,
)
def test_a_failing_write_says_what_and_where(
    s3: S3Store,
    server: ScriptedS3,
    operation: str,
    size: int,
    answer: Answer,
    kind: type[Exception],
    words: str,
) -> None:
    """Each request of a write may fail in each way: the type, the sentence and the place are right, nothing
    secret."""
    server.script(operation, answer)
    server.script("head", Answer(404))
    with pytest.raises(kind) as caught:
        write(s3, size)
    text = str(caught.value)
    assert words in text
    assert s3.describe() in text
    assert SECRET not in text
    assert "upload-1" not in text
    assert "complete" not in {asked for asked, _ in server.requests} or operation == "complete"


@pytest.mark.parametrize(
    ("answer", "passing", "words"),
    [
        (FAILED, True, "the server failed"),
        (BUSY, True, "give it time"),
        (Answer(429, "TooManyRequests"), True, "refused"),
        (Answer(400, "RequestTimeout"), True, "refused"),
        (Answer(broken=True), True, "the connection failed"),
        (Answer(silent=True), True, "no answer for too long"),
        (Answer(403, "AccessDenied"), False, "the key needs to"),
        (Answer(403, "InvalidAccessKeyId"), False, "correct the access key"),
        (Answer(403, "SignatureDoesNotMatch"), False, "correct them"),
        (Answer(400, "ExpiredToken"), False, "the session token has expired; give a new one"),
        (Answer(400, "InvalidToken"), False, "give a new one"),
        (Answer(403, "RequestTimeTooSkewed"), False, "its clock and this machine's differ too much"),
        (Answer(404, "NoSuchBucket"), False, "create it"),
        (Answer(301, "PermanentRedirect"), False, "correct region and endpoint"),
        (Answer(501, "NotImplemented"), False, "use a server with multipart uploads"),
    ],
    ids=lambda value: value.code or "gone" if isinstance(value, Answer) else None,
)
def test_a_fault_says_whether_it_passes_by_itself(
    s3: S3Store, server: ScriptedS3, answer: Answer, passing: bool, words: str
) -> None:
    """An outage is waited for; a key, a bucket or a clock must be mended, and the sentence says which. It is
    the same after the error went through its record."""
    server.script("put", answer)
    with pytest.raises(StoreUnavailable, match=words) as caught:
        s3.put_bytes("k", b"x")
    told = from_dict(caught.value.to_dict())
    assert isinstance(told, StoreUnavailable)
    assert (caught.value.passing, told.passing, told.retry) == (passing, passing, True)


def test_a_refused_head_names_everything_it_may_be(s3: S3Store, server: ScriptedS3) -> None:
    """Its answer has no code."""
    server.script("head", Answer(403))
    with pytest.raises(StoreUnavailable, match="keys and this machine's clock") as caught:
        s3.stat("k")
    assert not caught.value.passing


@pytest.mark.parametrize("operation", ["part", "complete"])
def test_a_failed_upload_is_aborted_once(s3: S3Store, server: ScriptedS3, operation: str) -> None:
    """What the server holds of it is taken back."""
    server.script(operation, FAILED)
    server.script("head", Answer(404))
    with pytest.raises(StoreUnavailable):
        write(s3, BIG)
    assert server.count("abort") == 1
    assert server.requests[-1][0] == "abort"


def test_a_failing_abort_does_not_hide_the_first_error(
    s3: S3Store, server: ScriptedS3, caplog: pytest.LogCaptureFixture
) -> None:
    """The full disk is reported, the abort that failed after it is only logged."""
    server.script("part", Answer(507, "InsufficientStorage"))
    server.script("abort", FAILED)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreFull):
        write(s3, BIG)
    assert "left for the sweep" in caplog.text


def test_a_failing_abort_does_not_hide_the_callers_error(s3: S3Store, server: ScriptedS3) -> None:
    """The source's own error comes through while the upload is taken back."""
    server.script("abort", FAILED)
    key, digest = "default/blobs/sha256/x", Digest.of(b"")
    with pytest.raises(ZeroDivisionError), s3.writer(key, digest, BIG, "claim1") as writer:
        writer.write(bytes(6 * MIB))
        raise ZeroDivisionError
    assert server.count("abort") == 1


def test_nothing_is_completed_without_a_proof(s3: S3Store, server: ScriptedS3) -> None:
    """A proof of other bytes stops the upload before its completion is even asked for."""
    data = bytes(BIG)
    key, digest = "default/blobs/sha256/x", Digest.of(b"something else")
    with pytest.raises(DigestMismatch), s3.writer(key, digest, BIG, "claim1") as writer:
        writer.write(data)
        writer.commit(verify_bytes(data, Digest.of(data)))
    assert server.count("complete") == 0
    assert server.count("abort") == 1


def test_a_lost_answer_to_the_completion_is_forgiven_when_the_object_is_there(
    s3: S3Store, server: ScriptedS3
) -> None:
    """The completion worked, its answer was lost, its repetition finds no upload: the blob is there, all is
    well."""
    server.script("complete", Answer(404, "NoSuchUpload"))
    server.script("head", Answer(body=bytes(BIG)))
    write(s3, BIG)
    assert server.count("abort") == 0


def test_a_lost_upload_is_an_error_when_the_object_is_not_there(s3: S3Store, server: ScriptedS3) -> None:
    """A sweep took the upload: the writer fails and may be run again."""
    server.script("complete", Answer(404, "NoSuchUpload"))
    server.script("head", Answer(404))
    with pytest.raises(StoreUnavailable, match="sweep"):
        write(s3, BIG)


def test_a_short_hiccup_is_retried_inside_the_client(server: ScriptedS3) -> None:
    """One 500 and one 503 do not reach the caller."""
    store = S3Store(options(server.endpoint, attempts=3))
    server.script("part", FAILED, BUSY, OK)
    write(store, BIG)
    store.close()
    assert server.count("part") == 5  # three parts, the first of them three times


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.stat("k"),
        lambda store: store.get_bytes("k", 10),
        lambda store: store.put_bytes("k", b"x"),
        lambda store: store.delete("k"),
        lambda store: list(store.list("")),
        lambda store: store.check(),
    ],
    ids=["stat", "get", "put", "delete", "list", "check"],
)
def test_every_operation_reports_a_failing_server(
    s3: S3Store, server: ScriptedS3, ask: Callable[[S3Store], object]
) -> None:
    """500 is StoreUnavailable whatever was asked."""
    for operation in ("head", "get", "put", "delete", "list"):
        server.script(operation, FAILED)
    with pytest.raises(StoreUnavailable, match="the server failed"):
        ask(s3)


@pytest.mark.parametrize("cut", [0, 10, 2 * MIB])
def test_a_body_that_ends_early_is_an_error_not_an_end(s3: S3Store, server: ScriptedS3, cut: int) -> None:
    """A reader never takes the beginning of a blob for the blob."""
    server.script("get", Answer(body=bytes(3 * MIB), cut=cut))
    with pytest.raises(StoreUnavailable), s3.open("k") as chunks:
        for _ in chunks:
            pass


def test_a_server_without_ranges_is_noticed(s3: S3Store, server: ScriptedS3) -> None:
    """Some servers answer a range request with the whole object: bytes must not land at the wrong place."""
    server.script("get", Answer(body=bytes(1000)))
    with pytest.raises(StoreUnavailable, match="ranges"), s3.open("k", 500):
        raise AssertionError("opened")


def test_a_server_that_is_not_there_is_named() -> None:
    """Nothing listens: the sentence says where."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = S3Store(options(f"http://127.0.0.1:{port}"))
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        store.check()
    store.close()


@pytest.mark.parametrize("endpoint", ["not a url", "ftp//x", "http://"])
def test_an_endpoint_that_is_no_url_is_a_settings_fault(endpoint: str) -> None:
    """Found before anything is sent."""
    with pytest.raises((ConfigInvalid, StoreUnavailable)):
        S3Store(options(endpoint)).check()


def test_no_variable_of_the_machine_has_a_say(
    server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Profiles, other keys, endpoints, proxies and CA files in the environment change nothing once keys are
    given."""
    config = tmp_path / "config"
    config.write_text("[profile other]\nregion = eu-west-1\ns3 =\n  addressing_style = virtual\n")
    hostile = {
        "AWS_ACCESS_KEY_ID": "wrong",
        "AWS_SECRET_ACCESS_KEY": "wrong",
        "AWS_SESSION_TOKEN": "wrong",
        "AWS_PROFILE": "nobody",
        "AWS_CONFIG_FILE": str(config),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": "/nowhere",
        "REQUESTS_CA_BUNDLE": "/nowhere",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_DEFAULTS_MODE": "auto",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    server.script("put", FAILED)
    store = S3Store(options(server.endpoint))
    with pytest.raises(StoreUnavailable, match="the server failed"):
        store.put_bytes("a/b", b"x")
    store.close()
    assert server.requests == [("put", "/bucket/a/b")]
    assert "Credential=the-access-key/" in server.headers[0]["Authorization"]
    assert "/us-east-1/s3/" in server.headers[0]["Authorization"]
    assert not {name.lower() for name in server.headers[0]} & {"x-amz-security-token", "x-amz-checksum-crc32"}


@pytest.mark.parametrize(("signed", "expected"), [(False, "UNSIGNED-PAYLOAD"), (True, Digest.of(b"x").hex)])
def test_payloads_are_signed_only_when_asked(server: ScriptedS3, signed: bool, expected: str) -> None:
    """Hashing every part a second time is the operator's choice."""
    plain = options(server.endpoint)
    store = S3Store(S3Options("bucket", plain.endpoint, access_key="a", secret_key="b", sign_payload=signed))
    store.put_bytes("k", b"x")
    store.close()
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert sent["x-amz-content-sha256"] == expected
    assert "expect" not in sent


def test_the_finished_object_names_the_claim_that_wrote_it(s3: S3Store, server: ScriptedS3) -> None:
    """Its metadata carries the token, on both ways of writing."""
    server.script("head", Answer(404))
    write(s3, SMALL)
    write(s3, BIG)
    marked = [
        asked
        for (asked, _), headers in zip(server.requests, server.headers, strict=True)
        if headers.get("x-amz-meta-claim") == "claim1"
    ]
    assert marked == ["put", "create"]


def test_no_secret_shows_in_what_people_see() -> None:
    """Neither the description nor the options' repr holds a key or a login of the URL."""
    store = S3Store(
        S3Options("b", endpoint="https://user:pw@s3.example:9000/x?y=z", secret_key=SECRET, prefix="/p/")
    )
    assert store.describe() == "S3 bucket b at https://s3.example:9000, prefix p/"
    assert SECRET not in repr(S3Options("b", secret_key=SECRET, session_token=SECRET, proxy=SECRET))


# --- the folder ---------------------------------------------------------------------------------------------


def proof_of(data: bytes) -> tuple[str, Digest, Verified]:
    """Key, digest and proof."""
    digest = Digest.of(data)
    return blob_key("default", digest), digest, verify_bytes(data, digest)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EIO, StoreUnavailable),
        (errno.EROFS, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failing_disk_is_typed_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], call: str
) -> None:
    """A full disk is StoreFull, any other fault StoreUnavailable; no object and no staged file remain."""
    store = LocalStore(tmp_path)
    key, digest, proof = proof_of(b"some bytes")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind), store.writer(key, digest, 10, "claim1") as writer:
        monkeypatch.setattr(os, call, fail)
        writer.write(b"some bytes")
        writer.commit(proof)
    monkeypatch.undo()
    assert list(store.list("")) == []
    assert list(store.unfinished()) == []


@pytest.mark.parametrize("folder", ["file", "file/below", "nowhere/below"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, folder: str) -> None:
    """Whatever the system calls it, the store is what is wrong: nobody takes it for a missing object."""
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "too")
    store = LocalStore(tmp_path / folder)
    key, digest, _ = proof_of(b"some bytes")
    for write in (store.check, lambda: store.put_bytes(key, b""), lambda: store.writer(key, digest, 10, "t")):
        with pytest.raises(StoreUnavailable, match=r"store\.folder") as caught:
            write()
        assert str(tmp_path / folder) in caught.value.message


def test_a_folder_of_somebody_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the same: name a folder that this user may write to."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreUnavailable, match=r"Permission denied; store\.folder"):
        LocalStore(tmp_path / "store").check()


@pytest.mark.parametrize(
    "key", ["../x", "a/../../x", "/etc/x", "a//b", "", ".staging/x", "a/.hidden", "a\0b"]
)
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    """Whatever a key is made from, it cannot leave the store or touch unfinished writes."""
    store = LocalStore(tmp_path / "store")
    with pytest.raises(InvalidRequest):
        store.put_bytes(key, b"x")
    with pytest.raises(InvalidRequest):
        store.get_bytes(key, 10)
    assert not (tmp_path / "x").exists()


def test_only_staged_files_can_be_discarded(tmp_path: Path) -> None:
    """A handle is a name in the staging folder, never a path."""
    victim = tmp_path / "victim"
    victim.write_text("keep")
    store = LocalStore(tmp_path / "store")
    store.put_bytes("a", b"x")
    with pytest.raises(InvalidRequest):
        store.discard(Unfinished("a", "../../victim", "", 0.0))
    assert victim.exists()


def test_what_a_killed_writer_leaves_is_found_with_its_token(tmp_path: Path) -> None:
    """A new process finds the staged file, whose it was and how large it is, and takes it back."""
    key, digest, _ = proof_of(b"some bytes")
    writer = LocalStore(tmp_path).writer(key, digest, 10, "claim:1/x")
    writer.write(b"some")
    [found] = LocalStore(tmp_path).unfinished()
    assert (found.key, found.token, found.size) == (key, "claim:1/x", 4)
    LocalStore(tmp_path).discard(found)
    assert list(LocalStore(tmp_path).unfinished()) == []
    writer.__exit__(None, None, None)


def test_a_staged_file_is_never_an_object(tmp_path: Path) -> None:
    """Listing passes over staging, whatever the prefix."""
    store = LocalStore(tmp_path)
    key, digest, _ = proof_of(b"some bytes")
    with store.writer(key, digest, 10, "claim1") as writer:
        writer.write(b"some")
        assert list(store.list("")) == []
    assert list(store.list("")) == []
