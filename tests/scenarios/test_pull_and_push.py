"""Pull into the store, push out of it, and the choices that both share with copy: tags, digests, platforms.

One image, tag and digest and all tags, lists and platforms, what is there already, and exact manifests.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry
from distworker.blobstore.local import LocalStore
from tests.images import Layout, Pushed, copy_out, digest_at, has, push_image, push_index
from tests.scenarios.fleet import Fleet, Ran
from tests.scenarios.traffic import blob_bytes, kept_blobs, uploads, writes

pytestmark = pytest.mark.servers

LAYER = 200_000
Ends = tuple[DockerRegistry, DockerRegistry]


@pytest.fixture
def site(fleet: Fleet, ends: Ends) -> Fleet:
    """A fleet of one worker that knows both ends."""
    for end in ends:
        fleet.know(end.host)
    fleet.start_workers(1)
    return fleet


def store_of(fleet: Fleet) -> LocalStore:
    """A second view of its store."""
    return LocalStore(fleet.folder / "store")


def states(ran: Ran) -> list[str]:
    """How each image of the job ended."""
    return [event["state"] for event in ran.events if event["event"] == "image"]


def nothing_moved(ran: Ran) -> bool:
    """Did the job end well without a byte?"""
    return ran.code == 0 and ran.done["moved"] == {"downloaded": 0, "uploaded": 0, "layers": 0}


def several_tags(folder: Path, repository: str) -> dict[str, Pushed]:
    """Three images under four tags of one repository; they share their base layer."""
    layout = Layout(folder / "tags")
    base = layout.layer("base", LAYER)
    for tag in ("1", "2", "latest"):
        layout.tag(tag, layout.image([base, layout.layer(tag, 2000)], label=tag))
    pushed = {tag: layout.push(tag, f"{repository}:{tag}") for tag in ("1", "2", "latest")}
    return {**pushed, "stable": layout.push("2", f"{repository}:stable")}


def test_what_was_pulled_comes_back_when_its_registry_lost_everything(
    fleet: Fleet, new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    """`pull REF`, the registry burns down, `push REF`: the same digests as before, to the last child."""
    registry = new_registry()
    image = push_index(tmp_path, f"{registry.host}/team/app:1", LAYER)
    fleet.know(registry.host)
    fleet.start_workers(1)

    pulled = fleet.run("pull", image.reference, "--json")
    served = dict(blob_bytes(registry))
    again = fleet.run("pull", image.reference, "--json")
    registry.stop()
    shutil.rmtree(registry.folder / "data")
    registry.start()
    assert not has(image.reference)
    pushed = fleet.run("push", image.reference, "--json")
    repeated = fleet.run("push", image.reference, "--json")

    assert pulled.code == 0, pulled.text
    assert served == image.blobs, "each blob was read once"
    assert kept_blobs(store_of(fleet)) == {**image.blobs, **image.manifests}, "and every one is in the store"
    assert states(again) == ["unchanged"], again.text
    assert nothing_moved(again)
    assert pushed.code == 0, pushed.text
    assert digest_at(image.reference) == image.digest
    copy_out(image.reference, tmp_path / "back")  # skopeo checks every digest below
    assert states(repeated) == ["unchanged"], repeated.text
    assert nothing_moved(repeated)
    assert blob_bytes(registry) == served, "the source was never read again"


def test_a_pulled_image_goes_to_another_registry_and_mounts_what_is_there(
    site: Fleet, ends: Ends, tmp_path: Path
) -> None:
    """`push REF DST`: a second repository of the same registry gets its layers by mounting."""
    source, destination = ends
    image = push_image(tmp_path, f"{source.host}/app:1", size=LAYER)
    first = f"{destination.host}/mirror/app:1"

    pulled = site.run("pull", image.reference)
    source.stop()  # the store is enough
    pushed = site.run("push", image.reference, first, "--json")
    sent = uploads(destination)
    other = site.run("push", image.reference, f"{destination.host}/elsewhere/app", "--json")
    repeated = site.run("push", image.reference, first, "--json")

    assert (pulled.code, pushed.code, other.code) == (0, 0, 0), pulled.text + pushed.text + other.text
    assert digest_at(first) == digest_at(f"{destination.host}/elsewhere/app:1") == image.digest
    assert pushed.done["moved"]["uploaded"] == image.total
    assert (sent, uploads(destination)) == (len(image.blobs), sent), "the second time nothing was sent"
    assert other.done["saved"]["mounted"] == image.total, other.done
    assert states(repeated) == ["unchanged"]
    assert nothing_moved(repeated)


def test_all_tags_travel_by_pull_by_push_and_by_copy(site: Fleet, ends: Ends, tmp_path: Path) -> None:
    """Four tags, two of them of one image; shared blobs once, and nothing the second time."""
    source, destination = ends
    repository = f"{source.host}/team/app"
    images = several_tags(tmp_path, repository)
    blobs = {digest: size for image in images.values() for digest, size in image.blobs.items()}

    pulled = site.run("pull", "--all-tags", repository, "--json")
    pushed = site.run("push", "--all-tags", repository, f"{destination.host}/pushed", "--json")
    copied = site.run("copy", "--all-tags", repository, f"{destination.host}/copied", "--json")
    again = site.run("copy", "--all-tags", repository, f"{destination.host}/copied", "--json")

    for ran in (pulled, pushed, copied):
        assert ran.code == 0, ran.text
        assert ran.done["images"]["total"] == 4, ran.text
    for tag, image in images.items():
        for name in ("pushed", "copied"):
            assert digest_at(f"{destination.host}/{name}:{tag}") == image.digest, (name, tag)
    assert blob_bytes(source) == blobs, "three jobs, one reading of each blob"
    assert uploads(destination) == len(blobs), "and one upload"
    assert states(again) == ["unchanged"] * 4
    assert nothing_moved(again)


def test_one_platform_arrives_under_its_own_digest(site: Fleet, ends: Ends, tmp_path: Path) -> None:
    """The child is found by platform, its bytes are those the index names; nothing else moves."""
    source, destination = ends
    layout = Layout(tmp_path / "layout")
    shared = layout.layer("shared", LAYER)
    small = layout.image([shared, layout.layer("a", 9000)], architecture="amd64")
    wanted = layout.image([shared, layout.layer("b", 9000)], architecture="arm64", variant="v8")
    layout.tag("it", layout.index([small, wanted, layout.attestation(small)]))
    image = layout.push("it", f"{source.host}/app:1")
    body = json.loads(layout.read(wanted["digest"]))
    needed = {blob["digest"]: blob["size"] for blob in [body["config"], *body["layers"]]}
    words = ("copy", image.reference, f"{destination.host}/arm:1", "--platform", "linux/arm64", "--json")

    ran, again = site.run(*words), site.run(*words)
    served = dict(blob_bytes(source))
    absent = site.run("copy", image.reference, f"{destination.host}/none:1", "--platform", "linux/s390x")
    pulled = site.run("pull", image.reference, "--platform", "linux/amd64", "--json")
    pushed = site.run("push", image.reference, f"{destination.host}/amd:1", "--json")

    assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/arm:1") == wanted["digest"]
    assert served == needed, "nothing of the other platform was read"
    assert states(again) == ["unchanged"]
    assert absent.code == 1
    assert "no matching manifest for linux/s390x" in absent.out
    assert "linux/amd64, linux/arm64" in absent.out, "what there is instead is named"
    assert not has(f"{destination.host}/none:1")
    assert (pulled.code, pushed.code) == (0, 0), pulled.text + pushed.text
    assert digest_at(f"{destination.host}/amd:1") == small["digest"]


def test_a_digest_names_the_image_even_after_its_tag_moved(site: Fleet, ends: Ends, tmp_path: Path) -> None:
    """By digest alone, and by tag and digest, where the digest decides; without a tag nothing is tagged."""
    source, destination = ends
    old = push_image(tmp_path, f"{source.host}/app:1", ["base", "old"], LAYER)
    new = push_image(tmp_path / "new", f"{source.host}/app:1", ["base", "new"], LAYER)
    assert digest_at(f"{source.host}/app:1") == new.digest != old.digest
    by_digest, both = f"{source.host}/app@{old.digest}", f"{source.host}/app:1@{old.digest}"

    tagged = site.run("copy", by_digest, f"{destination.host}/tagged:9", "--json")
    loose = site.run("copy", by_digest, f"{destination.host}/loose", "--json")
    again = site.run("copy", by_digest, f"{destination.host}/loose", "--json")
    pulled = site.run("pull", both, "--json")
    pushed = site.run("push", f"{source.host}/app:1", f"{destination.host}/pushed", "--json")
    untagged = site.run("pull", by_digest)

    for ran in (tagged, loose, pulled, pushed):
        assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/tagged:9") == old.digest
    assert digest_at(f"{destination.host}/loose@{old.digest}") == old.digest
    assert [line for line in writes(destination) if "/loose/manifests/" in line] == [
        f"PUT /v2/loose/manifests/{old.digest}"
    ]
    assert states(again) == ["unchanged"]
    assert digest_at(f"{destination.host}/pushed:1") == old.digest, "the digest decided what was pulled"
    assert untagged.code == 2, "the store keeps images by tag"
    assert "source: pull needs a tag to keep the image under" in untagged.err


def test_a_moved_tag_is_followed_and_only_what_is_new_moves(site: Fleet, ends: Ends, tmp_path: Path) -> None:
    """The second copy brings the new layer and the new config, and the tag leads to them."""
    source, destination = ends
    target = f"{destination.host}/app:1"
    push_image(tmp_path, f"{source.host}/app:1", ["base", "old"], LAYER)
    site.run("copy", f"{source.host}/app:1", target)
    before = set(blob_bytes(source))
    new = push_image(tmp_path / "new", f"{source.host}/app:1", ["base", "new"], LAYER)

    ran = site.run("copy", f"{source.host}/app:1", target, "--json")

    fresh = {digest: size for digest, size in new.blobs.items() if digest not in before}
    assert states(ran) == ["done"], ran.text
    assert digest_at(target) == new.digest
    assert 0 < len(fresh) < len(new.blobs)
    assert ran.done["moved"]["uploaded"] == sum(fresh.values())
    assert ran.done["saved"]["present"] == new.total - sum(fresh.values())


def test_what_was_never_pulled_or_never_existed_is_said_in_one_line(
    site: Fleet, ends: Ends, tmp_path: Path
) -> None:
    """Push of an unknown name, push of an unknown tag, pull of a missing tag and of a missing repository."""
    source, destination = ends
    image = push_image(tmp_path, f"{source.host}/app:1", size=2000)
    site.run("pull", image.reference)
    stranger, away = f"{source.host}/stranger", f"{destination.host}/a"
    cases = [
        (("push", f"{stranger}:1", away), "manifest_unknown", "/stranger:1; pull it first"),
        (("push", f"{source.host}/app:2", away), "manifest_unknown", "/app:2; pull it first"),
        (("push", "--all-tags", stranger, away), "manifest_unknown", "the store holds no tag of"),
        (("pull", f"{source.host}/app:2"), "manifest_unknown", "/app:2: "),
        (("pull", f"{stranger}:1"), "manifest_unknown", "/stranger:1: "),
        (("pull", "--all-tags", stranger), "repository_unknown", "/stranger: "),
    ]

    for words, code, sentence in cases:
        ran = site.run(*words, "--json")
        assert (ran.code, states(ran)) == (1, ["failed"]), ran.text
        error = next(event["error"] for event in ran.events if event["event"] == "image")
        assert (error["code"], "\n" in error["message"]) == (code, False), ran.text
        assert sentence in error["message"]
    assert not writes(destination)
