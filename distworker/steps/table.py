"""Which function does which kind of step. Runners look here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from distworker import names
from distworker.steps.base import Step
from distworker.steps.download import download
from distworker.steps.expand import expand
from distworker.steps.plan import plan
from distworker.steps.publish import publish
from distworker.steps.upload import upload

STEPS: Final[Mapping[str, Step]] = {
    names.PUBLISH: publish,
    names.UPLOAD: upload,
    names.DOWNLOAD: download,
    names.PLAN: plan,
    names.EXPAND: expand,
}
