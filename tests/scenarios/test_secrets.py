"""Secrets are nowhere: not in logs, output, Flower, Redis, the broker or the store, whatever goes wrong.

Every secret of this installation is marked: registry passwords in three ways of giving them, the tokens that
a token server hands out, the S3 key, the Redis password, Flower's login, and what careless people put into
references and payloads. Jobs that work and jobs that fail run; then all that anybody could read is searched.
"""

from __future__ import annotations

import base64
import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery import Celery

from deploy.demo.servers import Flower, Htpasswd, Swift, TokenAuth, write_private
from distworker import names
from distworker.blobstore.s3 import S3Options, S3Store
from tests.conftest import swift_options
from tests.fakes.registry_token import SignedTokenServer
from tests.images import digest_at
from tests.scenarios.conftest import s3_table
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.site import Site, site

pytestmark = pytest.mark.servers

#: Stands in every secret of the installation.
MARK = "m4rk3dsecret"
#: Stands in what other people write into references and messages: it may pass through the broker once.
CARELESS = "c4r3lesssecret"


class Tokens(SignedTokenServer):
    """A token server that remembers what it handed out."""

    def __init__(self, users: dict[str, str]) -> None:
        super().__init__(users)
        self.given: list[str] = []

    def issue(self, granted: set[str]) -> dict[str, object]:
        """See there."""
        answer = super().issue(granted)
        self.given.append(str(answer["token"]))
        return answer


Corners = dict[str, str]


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory, swift: Swift) -> Iterator[Corners]:
    """Corner → all text that was found there after a day's work; and `tokens`, which it must not hold."""
    folder = tmp_path_factory.mktemp("secrets")
    options = swift_options(swift, prefix="secrets")
    with Tokens({"robot": f"{MARK}-token"}) as tokens, site(folder, s3_table(options), password=MARK) as here:
        assert isinstance(tokens, Tokens)
        tokened, filed, dockered, wrong = _registries(here, tokens)
        here.fleet.start_workers(1)
        login = {"DISTWORKER_FLOWER_AUTH": f"op:{MARK}"}
        with Flower(folder, here.fleet.settings | login) as flower:
            found = _work(here, (tokened, filed, dockered, wrong), options)
            _careless(here.fleet)
            wait_for(lambda: "FAILURE" in _ask(flower, "/api/tasks"), "a failed task in Flower")
            found["Flower's tasks"] = _ask(flower, "/api/tasks")
            found["Flower's workers"] = _ask(flower, "/api/workers?refresh=1")
        found["Flower's log"] = flower.text()
        found["worker logs"] = here.fleet.logs()
        found |= _redis(here)
        found["store"] = _store(options)
        assert tokens.given, "the token server was asked"
        found["tokens"] = " ".join(tokens.given)
        yield found


def _registries(here: Site, tokens: Tokens) -> tuple[str, str, str, str]:
    """Logins by password, password file and docker config, and one that is wrong."""
    certificate = tokens.write_certificate(here.folder / "tokens.pem")
    auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, certificate)
    tokened = here.registry(auth=auth).host
    filed, dockered, wrong = (here.registry(auth=Htpasswd("robot", f"{MARK}-{n}")).host for n in range(3))
    secret = write_private(here.folder / "password", f"{MARK}-0\n")
    encoded = base64.b64encode(f"robot:{MARK}-1".encode()).decode()
    docker = write_private(here.folder / "docker.json", json.dumps({"auths": {dockered: {"auth": encoded}}}))
    here.fleet.more = f'docker_config = "{docker}"\n'
    here.fleet.know(tokened, username="robot", password=f"{MARK}-token", token_realms=[tokens.host])
    here.fleet.know(filed, username="robot", password_file=str(secret))
    here.fleet.know(wrong, username="robot", password=f"{MARK}-wrong")
    return tokened, filed, dockered, wrong


def _work(here: Site, hosts: tuple[str, str, str, str], options: S3Options) -> Corners:
    """What the command line says, at its most talkative, when things work and when they do not."""
    tokened, filed, dockered, wrong = hosts
    image = here.image("app", "app")
    run = here.fleet.run
    found: Corners = {}
    places = [here.source.host, tokened, filed, dockered]
    for source, target in itertools.pairwise(places):
        for words in (("-vv", "--json"), ("-vv",)):
            ran = run("copy", f"{source}/app:1", f"{target}/app:1", *words)
            assert ran.code == 0, ran.text
            found[f"output of copy {words} to {target}"] = ran.text
    assert digest_at(f"{dockered}/app:1", f"robot:{MARK}-1") == image.digest
    refused = run("copy", image.reference, f"{wrong}/app:1", "-vv", "--json")
    assert (refused.code, "unauthorized" in refused.out) == (1, True), refused.text
    found["output of a refused login"] = refused.text
    keyless = replace(options, secret_key=f"{MARK}-s3")
    stranger = Fleet(here.folder / "stranger", here.fleet.valkey, s3_table(keyless), here.fleet.registries)
    found["output with a wrong S3 key"] = stranger.run("copy", image.reference, f"{filed}/b:1", "-vv").text
    assert "secret key" in found["output with a wrong S3 key"]
    found["output of doctor"] = run("doctor", "--all", "-vv").text
    found["output of doctor --json"] = run("doctor", "--json").text
    found["output of status"] = run("status", "--json").text
    ran = run("copy", f"robot:{CARELESS}@{filed}/app:1", f"{filed}/c:1", "-vv")
    assert ran.code == 2, ran.text
    found["output for a password in a reference"] = ran.text
    return found


def _careless(fleet: Fleet) -> None:
    """Somebody sends passwords to the workers."""
    app = Celery("stranger", broker=fleet.valkey.url(0), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "distworker:"}
    place = {"v": 1, "destination": "d.example/a"}
    payloads: tuple[dict[str, Any], ...] = (
        {**place, "source": "s.example/a", "password": CARELESS},
        {**place, "source": f"robot:{CARELESS}@s.example/a"},
        {**place, "source": "s.example/a", "source_credential": f"robot:{CARELESS} !"},
    )
    before = fleet.logs().count("message refused")
    for payload in payloads:
        app.send_task(names.SUBMIT_JOB, kwargs=payload, queue=names.QUEUE_CONTROL, ignore_result=True)
    app.close()
    wait_for(lambda: fleet.logs().count("message refused") == before + 3, "three refusals")


def _ask(flower: Flower, path: str) -> str:
    login = base64.b64encode(f"op:{MARK}".encode()).decode()
    request = urllib.request.Request(flower.url + path, headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def _redis(here: Site) -> Corners:
    """Every key and raw value of ledger and queues, and every command that was ever written to the disk."""
    client = redis.Redis.from_url(here.fleet.valkey.url(0))
    keys = list(client.scan_iter())
    dumps = [key + b"=" + (client.dump(key) or b"") + _plain(client, key) for key in keys]
    client.close()
    assert any(key.startswith(b"distworker:job:") for key in keys), "the ledger is there"
    assert any(b"_kombu.binding" in key for key in keys), "and the queues"
    found: Corners = {"Redis": b"\n".join(dumps).decode("latin-1")}
    files = list((here.folder / "valkey").rglob("*.aof"))
    assert files
    found["append-only file"] = "".join(path.read_bytes().decode("latin-1") for path in files)
    return found


def _plain(client: redis.Redis, key: bytes) -> bytes:
    """The value without the compression of DUMP."""
    read = {
        b"string": lambda: client.get(key),
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
    }
    return repr(read[client.type(key)]()).encode()


def _store(options: S3Options) -> str:
    """Every object with its key."""
    store = S3Store(options)
    parts = []
    for item in store.list(""):
        with store.open(item.key) as chunks:
            parts.append(item.key + "=" + b"".join(bytes(chunk) for chunk in chunks).decode("latin-1"))
    store.close()
    assert any("request.json" in part for part in parts), "job records are there"
    return "\n".join(parts)


def hidden(text: str, secrets: list[str]) -> list[str]:
    """Those secrets that the text holds, plain or as Basic logins spell them."""
    return [secret for secret in secrets if secret in text]


def test_no_secret_of_the_installation_is_anywhere(corners: Corners) -> None:
    """Passwords, the S3 key, Redis's password, Flower's login; also base64 as in an Authorization header."""
    logins = [f"robot:{MARK}-{n}" for n in ("token", 0, 1, "wrong")] + [f"op:{MARK}"]
    encoded = [base64.b64encode(login.encode()).decode().rstrip("=")[:-2] for login in logins]
    for corner, text in corners.items():
        assert text, f"{corner} was looked into"
        assert hidden(text, [MARK, *encoded]) == [], f"{corner} holds a secret"


def test_no_token_is_anywhere(corners: Corners) -> None:
    """Nor its signature alone."""
    secrets = [part for token in corners["tokens"].split() for part in (token, token.rpartition(".")[2])]
    for corner, text in corners.items():
        assert corner == "tokens" or hidden(text, secrets) == [], f"{corner} holds a token"


def test_what_careless_people_write_is_not_repeated(corners: Corners) -> None:
    """A password in a reference or a payload is refused without being shown, and kept nowhere."""
    for corner, text in corners.items():
        if corner != "append-only file":  # their own message went through the broker once
            assert hidden(text, [CARELESS]) == [], f"{corner} repeats it"


def test_the_store_keys_are_not_shown(corners: Corners, swift: Swift) -> None:
    """The key in use is a word of its own."""
    for corner, text in corners.items():
        assert hidden(text, [swift.secret_key]) == [], f"{corner} holds the S3 key"
