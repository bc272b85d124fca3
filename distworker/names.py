"""Names that other processes depend on: task names, queues, step ids, payload fields, log events.

They are explicit strings, so a message never depends on where a module lives, and they change only with a new
payload version. Every record and payload carries `v`.
"""

from __future__ import annotations

from typing import Final

#: Version of every message, record and payload written by this release.
VERSION: Final = 1

# --- Celery tasks -------------------------------------------------------------------------------------------
#: The one task other systems send: its only keyword arguments are the fields of a job request
#: (docs/enqueue.md).
SUBMIT_JOB: Final = "distworker.submit_job"
#: The step tasks. Each carries `v` and `step`, nothing else.
EXPAND_JOB: Final = "distworker.expand_job"
PLAN_IMAGE: Final = "distworker.plan_image"
DOWNLOAD_LAYER: Final = "distworker.download_layer"
UPLOAD_LAYER: Final = "distworker.upload_layer"
PUBLISH_IMAGE: Final = "distworker.publish_image"
#: One piece of upkeep. Its message carries `v` and `sweep`, a name of the settings' `[upkeep]`.
SWEEP: Final = "distworker.sweep"

#: Queue for each kind of work; one worker serves all of them unless told otherwise.
QUEUE_CONTROL: Final = "distworker.control"
QUEUE_LAYERS: Final = "distworker.layers"


def queue_of(version: int) -> str:
    """The queue for job requests of that version, which older workers cannot read. Each worker serves its
    own: what waits there is taken as soon as one is upgraded."""
    return f"distworker.v{version}"


#: Whose everything is while a fleet serves one tenant; it begins the store's keys.
TENANT: Final = "default"

# --- Steps --------------------------------------------------------------------------------------------------
#: Step kinds in the order in which ready steps are admitted (publish first).
PUBLISH: Final = "m"
UPLOAD: Final = "u"
DOWNLOAD: Final = "d"
PLAN: Final = "p"
EXPAND: Final = "j"
KINDS: Final = (PUBLISH, UPLOAD, DOWNLOAD, PLAN, EXPAND)

#: What a person calls a step of that kind.
VERBS: Final = {PUBLISH: "publish", UPLOAD: "upload", DOWNLOAD: "download", PLAN: "plan", EXPAND: "expand"}


def expand_id(job: str) -> str:
    """Step id of a job's expansion."""
    return f"j:{job}"


def plan_id(image: str) -> str:
    """Step id of an image's planning."""
    return f"p:{image}"


def publish_id(image: str) -> str:
    """Step id of an image's publishing; this step is also the image's record until it closes."""
    return f"m:{image}"


def download_id(tenant: str, digest: str) -> str:
    """Step id of a blob's way into the store."""
    return f"d:{tenant}/{digest}"


def upload_id(digest: str, origin: str, repository: str = "") -> str:
    """Step id of a blob's way to a destination; with `repository` when a mount was refused or impossible."""
    return f"u:{digest}@{origin}" + (f"/{repository}" if repository else "")


def kind_of(step: str) -> str:
    """The kind letter of a step id."""
    return step[:1]
