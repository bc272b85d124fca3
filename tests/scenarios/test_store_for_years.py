"""A store that is looked after: damage is found and mended, what nobody needs goes, and everything that is
kept can be brought to any registry, whatever became of the one it came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry
from distworker.blobstore.keys import blob_key, quarantine_key
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.digest import Digest
from tests.images import Layout, copy_out, digest_at, has, push_image, push_index
from tests.scenarios.fleet import Fleet, Ran

pytestmark = pytest.mark.servers

LAYER = 150_000
Ends = tuple[DockerRegistry, DockerRegistry]


def well(ran: Ran, code: int = 0) -> Ran:
    """It ended with that exit code."""
    assert ran.code == code, ran.text
    return ran


def usage(fleet: Fleet) -> dict[str, dict[str, int]]:
    """What the store holds."""
    return well(fleet.run("usage", "--json")).done


def test_a_store_is_scrubbed_collected_and_restored_from(
    s3_fleet: Fleet, s3_options: S3Options, ends: Ends, tmp_path: Path
) -> None:
    """On a real S3 server, with a fleet at work: one story, as years of it go."""
    fleet, store = s3_fleet, S3Store(s3_options)
    first, second = (fleet.know(end.host) for end in ends)
    single = push_image(tmp_path, f"{first}/team/app:1", size=LAYER)
    index = push_index(tmp_path, f"{first}/team/multi:2", LAYER)
    passing = push_image(tmp_path, f"{first}/other/thing:3", seeds=("base", "passing"), size=LAYER)
    fleet.start_workers(1)
    for image in (single, index):
        well(fleet.run("pull", image.reference, "--json"))

    # A blob rots, another one disappears: both are found, put aside, and brought again.
    rotten, lost = max(single.blobs, key=lambda d: single.blobs[d]), min(index.blobs)
    key = blob_key("default", Digest.parse(rotten))
    data = store.get_bytes(key, 10_000_000) or b""
    store.put_bytes(key, data[:-1] + bytes([data[-1] ^ 1]))
    store.delete(blob_key("default", Digest.parse(lost)))
    scrubbed = well(fleet.run("scrub", "--rate", "0", "--json"), code=1)
    assert {e["ref"] for e in scrubbed.events if e["event"] == "damaged"} == {
        single.reference,
        index.reference,
    }
    assert (scrubbed.done["bad"], scrubbed.done["refs"]) == (1, 2)
    assert store.stat(quarantine_key("default", Digest.parse(rotten))) is not None
    for job in scrubbed.done["jobs"]:
        assert fleet.until_over(job)["images"]["failed"] == 0
    assert store.get_bytes(key, 10_000_000) == data
    assert well(fleet.run("scrub", "--all", "--rate", "0", "--json")).done["refs_damaged"] == 0

    # What only passed through goes, what is kept stays.
    well(fleet.run("copy", passing.reference, f"{second}/other/thing:3", "--json"))
    unused = set(passing.blobs) - set(single.blobs)
    assert usage(fleet)["unreferenced"]["count"] == len(unused) + 1
    assert well(fleet.run("gc", "--grace", "0", "--json")).done["deleted"] == 0
    due = [e["digest"] for e in well(fleet.run("gc", "--grace", "0", "--dry-run", "--json")).events[:-1]]
    assert set(due) == unused | {passing.digest}
    assert well(fleet.run("gc", "--grace", "0", "--json")).done["deleted"] == len(due)

    # What came in as an archive is an image like others.
    layout = Layout(tmp_path / "layout")
    made = layout.image([layout.layer("imported", LAYER)], label="imported")
    layout.tag("9", made)
    well(fleet.run("import", str(layout.folder), "archive.example/team/brought", "--json"))

    # The registry burns down.
    ends[0].stop()
    shutil.rmtree(ends[0].folder / "data")
    ends[0].start()
    for words in (
        (single.reference, f"{second}/restored/app:1"),
        (f"{first}/team/app@{single.digest}", f"{second}/restored/by-digest"),
        (index.reference,),
        ("--all-tags", f"{first}/team/multi", f"{second}/restored/multi"),
        ("archive.example/team/brought:9", f"{second}/restored/brought:9"),
    ):
        well(fleet.run("push", *words, "--json"))
    assert digest_at(f"{second}/restored/app:1") == single.digest
    assert digest_at(f"{second}/restored/by-digest@{single.digest}") == single.digest
    assert digest_at(index.reference) == digest_at(f"{second}/restored/multi:2") == index.digest
    assert digest_at(f"{second}/restored/brought:9") == made["digest"]
    copy_out(f"{second}/restored/multi:2", tmp_path / "judged")

    # Forgotten images free their room; the rest is still whole.
    well(fleet.run("forget", single.reference, "--json"))
    for _ in range(2):
        well(fleet.run("gc", "--grace", "0", "--json"))
    well(fleet.run("push", single.reference, f"{second}/gone:1", "--json"), code=1)
    assert not has(f"{second}/gone:1")
    assert usage(fleet)["unreferenced"]["count"] == 0
    store.close()
