"""Names that other processes depend on: they are unique, and step ids say their kind."""

from __future__ import annotations

from distworker import names
from distworker.digest import Digest

DIGEST = Digest.of(b"x")


def test_task_and_queue_names_are_unique_and_ours() -> None:
    """Two tasks of one name would run each other's messages."""
    texts = [value for value in vars(names).values() if isinstance(value, str)]
    tasks = [text for text in texts if text.startswith("distworker.") and text != names.__name__]
    assert len(tasks) == len(set(tasks)) == 9


def test_every_kind_has_its_verb_and_step_ids_say_their_kind() -> None:
    """An operator reads the kind in the first letter."""
    assert set(names.VERBS) == set(names.KINDS)
    assert len(set(names.KINDS)) == len(names.KINDS)
    ids = {
        names.EXPAND: names.expand_id("j"),
        names.PLAN: names.plan_id("j-1"),
        names.PUBLISH: names.publish_id("j-1"),
        names.DOWNLOAD: names.download_id("default", DIGEST),
        names.UPLOAD: names.upload_id(DIGEST, "reg.example"),
    }
    assert {kind: names.kind_of(step) for kind, step in ids.items()} == {kind: kind for kind in names.KINDS}


def test_an_upload_to_one_repository_is_another_step_than_one_to_the_origin() -> None:
    """A refused mount becomes its own upload."""
    assert names.upload_id(DIGEST, "reg.example") == f"u:{DIGEST}@reg.example"
    assert names.upload_id(DIGEST, "reg.example", "team/app") == f"u:{DIGEST}@reg.example/team/app"
