"""Registries that lie, refuse or are not there: one clear line each, nothing spoiled, the others arrive.

One job carries every fault of the source beside a good image, one every fault of the destination. Each case
then looks at its own image: the typed line, the old tag, and that nothing half shows anywhere.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, Htpasswd, write_private
from tests.fakes.registry import FakeRegistry, error
from tests.fakes.registry_server import Answer, FakeServer
from tests.images import MANIFEST, Pushed, digest_at
from tests.scenarios.fleet import Ran
from tests.scenarios.site import Site, images, site, status

pytestmark = pytest.mark.servers

LOGIN = Htpasswd("robot", "right")


@dataclass
class Spoiled:
    """A finished job with faults: `pushed` is what each repository should have got, `old` what it had."""

    site: Site
    ran: Ran
    pushed: Mapping[str, Pushed]
    old: Mapping[str, Pushed]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> dict[str, dict[str, Any]]:
        """Closed images by repository."""
        return images(self.ran)

    def line(self, repository: str) -> str:
        """`code: message` of a failed image."""
        outcome = self.lines[repository]
        assert outcome["state"] == "failed", f"{outcome}\n{self.site.fleet.logs()}"
        return f"{outcome['error']['code']}: {outcome['error']['message']}"


# --- faults of the source -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web_server() -> Iterator[FakeServer]:
    """A web server that has never heard of registries."""
    with FakeServer() as server:
        page = b"<html><h1>Welcome to our shop</h1></html>"
        server.always("*", "", Answer(404, {"Content-Type": "text/html"}, page))
        yield server


@pytest.fixture(scope="module")
def bad_sources(tmp_path_factory: pytest.TempPathFactory, web_server: FakeServer) -> Iterator[Spoiled]:
    """One job over everything that can be wrong with a source, beside an image that is right."""
    with site(tmp_path_factory.mktemp("sources")) as here:
        locked = here.registry(auth=LOGIN)
        nobody = f"localhost:{locked.port}"  # the same server under a name that has no login
        here.fleet.know(nobody)
        here.fleet.know(locked.host, username="robot", password="wrong")
        here.fleet.know(web_server.host)
        closed = here.fleet.know(f"127.0.0.1:{_port_without_server()}")
        pushed = {
            "good": here.image("good", "good"),
            "digest": here.image("digest", "digest"),
            "manifest": here.image("manifest", "manifest"),
            "wrong-login": here.image("locked", "locked", locked, "robot:right"),
        }
        pushed["no-login"] = pushed["wrong-login"]
        flip_a_byte(here.source, max(pushed["digest"].blobs, key=lambda one: pushed["digest"].blobs[one]))
        flip_a_byte(here.source, pushed["manifest"].digest)
        sources = {
            "good": pushed["good"].reference,
            "digest": pushed["digest"].reference,
            "manifest": pushed["manifest"].reference,
            "no-tag": f"{here.source.host}/good:2",
            "no-repository": f"{here.source.host}/nothing/here:1",
            "wrong-login": f"{locked.host}/locked:1",
            "no-login": f"{nobody}/locked:1",
            "no-host": "registry.distworker.invalid/app:1",
            "no-server": f"{closed}/app:1",
            "no-registry": f"{web_server.host}/app:1",
        }
        old = {name: here.old(name) for name in sources}
        here.fleet.start_workers(2)
        ran = here.fleet.migrate([here.pair(source, name) for name, source in sources.items()])
        notes = {"closed": closed, "locked": locked.host, "open": nobody, "web": web_server.host}
        yield Spoiled(here, ran, pushed, old, notes)


def flip_a_byte(registry: DockerRegistry, digest: str) -> None:
    """What a disk does now and then."""
    name = digest.removeprefix("sha256:")
    path = registry.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _port_without_server() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_good_image_of_a_job_with_faults_arrives(bad_sources: Spoiled) -> None:
    """And the exit code says that some failed."""
    ran = bad_sources.ran
    assert ran.code == 1, ran.text
    counted = {state: number for state, number in ran.done["images"].items() if number}
    assert counted == {"total": 10, "done": 1, "failed": 9}
    assert bad_sources.lines["good"]["state"] == "done"
    host = bad_sources.site.destination.host
    assert digest_at(f"{host}/good:1") == bad_sources.pushed["good"].digest


#: case → what its line says: the code, what, where, and what to do. `{…}` are notes of the job.
SOURCES = {
    "digest": ("digest_mismatch: {source}/digest@sha256:", "push the image to it again"),
    "manifest": ("digest_mismatch: {source}/manifest", "push the image to it again"),
    "no-tag": ("manifest_unknown: {source}/good:2", "missing, or hidden from this login"),
    "no-repository": ("manifest_unknown: {source}/nothing/here:1", "missing, or hidden from this login"),
    "wrong-login": ("unauthorized: {locked}/locked:1", "check its user and password in registries.toml"),
    "no-login": ("auth_required: {open}/locked:1", "add one to registries.toml"),
    "no-host": ("unavailable: registry.distworker.invalid/app:1", "check its spelling"),
    "no-server": ("unavailable: {closed}/app:1", "nothing listens at {closed}", "check host and port"),
    "no-registry": ("not_a_registry: {web}", "no registry API there; check the host name"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_fault_of_the_source_is_one_line_that_says_what_where_and_what_to_do(
    bad_sources: Spoiled, case: str
) -> None:
    """A code for machines, a sentence for people."""
    line = bad_sources.line(case)
    print(line)
    for words in SOURCES[case]:
        assert words.format(source=bad_sources.site.source.host, **bad_sources.notes) in line


@pytest.mark.parametrize("case", SOURCES)
def test_a_fault_of_the_source_leaves_the_old_tag_alone(bad_sources: Spoiled, case: str) -> None:
    """Whoever pulls from the destination notices nothing."""
    here = bad_sources.site
    assert digest_at(f"{here.destination.host}/{case}:1") == bad_sources.old[case].digest
    if case in bad_sources.pushed:
        assert here.whole(here.destination, case, bad_sources.pushed[case])


def test_a_blob_that_does_not_hash_to_its_name_is_nowhere(bad_sources: Spoiled) -> None:
    """Not in the store, whose every object is reread here, and not at the destination."""
    here, image = bad_sources.site, bad_sources.pushed["digest"]
    broken = max(image.blobs, key=lambda one: image.blobs[one])
    kept = here.kept
    assert set(bad_sources.pushed["good"].blobs) <= set(kept)
    assert broken not in kept
    assert status(here.destination.host, f"/v2/digest/blobs/{broken}") == 404


# --- faults of the destination ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeRegistry]:
    """A destination with a script; each case has a repository of its own there."""
    server = FakeRegistry()
    full = "adding 90 KiB exceeds the quota of 1 GiB"
    harbor = "configured as immutable, cannot be updated"
    ecr = "The image tag '1' already exists and cannot be overwritten because the repository is immutable."
    refusals = {
        "denied": ("POST", "blobs/uploads/", error(403, "DENIED", "access to it is denied")),
        "no-method": ("POST", "blobs/uploads/", Answer(405)),
        "quota": ("POST", "blobs/uploads/", error(403, "DENIED", full)),
        "broken": ("POST", "blobs/uploads/", error(500, "UNKNOWN", "the disk is on fire")),
        "immutable-harbor": ("PUT", "manifests/1", error(412, "PRECONDITION", harbor)),
        "immutable-ecr": ("PUT", "manifests/1", error(400, "TAG_INVALID", ecr)),
        "no-manifests": ("PUT", "manifests/", error(403, "DENIED", "manifests are not welcome")),
    }
    for name, (method, part, answer) in refusals.items():
        server.always(method, f"/v2/{name}/{part}", answer)
    busy = Answer(429, {"Retry-After": "1"})
    server.on("POST", "/v2/busy/blobs/uploads/", *[busy] * 6)
    with server:
        yield server


@pytest.fixture(scope="module")
def bad_destinations(tmp_path_factory: pytest.TempPathFactory, fake: FakeRegistry) -> Iterator[Spoiled]:
    """One image on its way to everything that can be wrong with a destination, and to some that are right."""
    with site(tmp_path_factory.mktemp("destinations")) as here:
        frozen, locked = here.registry(), here.registry(auth=LOGIN)
        here.fleet.know(locked.host, username="robot", password="wrong")
        here.fleet.know(fake.host)
        image = here.image("app", "app")
        kept = here.old("frozen", frozen)
        freeze(frozen)
        scripted = [case for case, words in REFUSED.items() if "{fake}" in words[0]]
        hosts = dict.fromkeys((*scripted, "busy", "welcome"), fake.host)
        hosts |= {"good": here.destination.host, "frozen": frozen.host, "locked": locked.host}
        hosts |= {"nowhere": "registry.distworker.invalid"}
        for name in hosts:
            if hosts[name] == fake.host:
                fake.put_manifest(name, OLD, MANIFEST, "1")
        here.fleet.start_workers(2)
        places = [f"{host}/{name}:1" for name, host in hosts.items()]
        ran = here.fleet.migrate([{"source": image.reference, "destination": place} for place in places])
        notes = {"frozen": frozen.host, "locked": locked.host}
        yield Spoiled(here, ran, dict.fromkeys(hosts, image), {"frozen": kept}, notes)


#: What stood under the scripted registry's tags before.
OLD = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}'


def freeze(registry: DockerRegistry) -> None:
    """From now on it only reads, as during its garbage collection."""
    registry.stop()
    path = registry.folder / "config.yml"
    purging = "uploadpurging: {enabled: false}"
    write_private(path, path.read_text().replace(purging, f"{purging}, readonly: {{enabled: true}}"))
    registry.start()


REFUSED = {
    "denied": ("denied: {fake}/denied", "access to it is denied", "the login may not do this"),
    "no-method": ("denied: {fake}/no-method", "405"),
    "quota": ("quota: {fake}/quota", "exceeds the quota", "free some room there"),
    "broken": ("unavailable: {fake}/broken", "500", "the disk is on fire"),
    "immutable-harbor": ("tag_immutable: {fake}/immutable-harbor:1", "does not let this tag move"),
    "immutable-ecr": ("tag_immutable: {fake}/immutable-ecr:1", "does not let this tag move"),
    "no-manifests": ("denied: {fake}/no-manifests", "manifests are not welcome"),
    "frozen": ("denied: {frozen}/frozen", "read-only"),
    "locked": ("unauthorized: {locked}/locked:1", "check its user and password in registries.toml"),
    "nowhere": ("unavailable: registry.distworker.invalid/nowhere:1", "check its spelling"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_destination_that_refuses_is_one_line_too(
    bad_destinations: Spoiled, fake: FakeRegistry, case: str
) -> None:
    """The same promises as for sources."""
    line = bad_destinations.line(case)
    print(line)
    for words in REFUSED[case]:
        assert words.format(fake=fake.host, **bad_destinations.notes) in line


def test_other_destinations_of_the_same_image_are_served(
    bad_destinations: Spoiled, fake: FakeRegistry
) -> None:
    """Also on the same registry, and one that was busy for a while."""
    ran, image = bad_destinations.ran, bad_destinations.pushed["good"]
    assert ran.code == 1, ran.text
    done = {name for name, outcome in bad_destinations.lines.items() if outcome["state"] == "done"}
    assert done == {"good", "welcome", "busy"}, ran.text
    assert len(bad_destinations.lines) == len(REFUSED) + 3
    assert digest_at(f"{bad_destinations.site.destination.host}/good:1") == image.digest
    assert (fake.tag_lists["welcome"]["1"], fake.tag_lists["busy"]["1"]) == (image.digest, image.digest)


def test_a_refused_tag_stays_what_it_was(bad_destinations: Spoiled, fake: FakeRegistry) -> None:
    """And no manifest is there whose blobs are not."""
    old = f"{bad_destinations.notes['frozen']}/frozen:1"
    assert digest_at(old) == bad_destinations.old["frozen"].digest
    for case in REFUSED:
        if case in fake.tag_lists:
            assert fake.manifests[case, fake.tag_lists[case]["1"]][1] == OLD
            image = bad_destinations.pushed[case]
            assert (case, image.digest) not in fake.manifests or set(image.blobs) <= fake.holds[case]
