"""Put a tag last, inside its lane: whoever planned later wins, whenever each one gets here.

The protocol has no compare-and-set, so the ledger's sequence is looked at right before and right after the
PUT, and the tag is read back after that. Right before the PUT the run also asks whether it still holds its
step: a worker that was frozen meanwhile must not publish what others went on with. A late loser puts the
winner's manifest back, whoever holds the step by then. What remains is a run that dies between PUT and the
second look; its rerun heals it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from distworker.errors import Interrupted, ProtocolError
from distworker.manifest import Manifest
from distworker.plan.ends import End
from distworker.steps.base import Context
from distworker.steps.verify import reads_back
from distworker.stopping import shielded

#: Times the tag is put while somebody else moves it under our hands.
TRIES: Final = 3


class Lane:
    """The tag's lane as one image sees it; without a name (no tag) nobody competes."""

    def __init__(self, context: Context, name: str, image: str, sequence: int, end: End) -> None:
        self._knowledge = context.knowledge
        self._watch = context.watch
        self._name = name
        self._end = end
        self._image = image
        self._sequence = sequence
        if name and not sequence:
            self._sequence = self._knowledge.lane_begin(name, image)

    def overtaken(self, reference: str, manifest: Manifest) -> bool:
        """Has a later image published here? If our own late PUT covers it, the later one is put back."""
        return bool(self._name) and self._lost(reference, manifest, *self._knowledge.lane_newest(self._name))

    def put(self, reference: str, manifest: Manifest, put: Callable[[str, Manifest], None]) -> bool:
        """Make `reference` lead to `manifest` and see that it does. False: a later image has the tag.

        Raises:
            ProtocolError: something outside keeps moving the tag, or the registry does not keep it.
        """
        for _ in range(TRIES):
            if self.overtaken(reference, manifest):
                return False
            self._watch.fence()
            # From the PUT to the last look nothing is broken off: a tag that came late must be put right.
            with shielded():
                self._put(reference, manifest, put)
                if not self.published(reference, manifest):
                    return False
                if reads_back(self._end, reference, manifest):
                    return True
        raise ProtocolError(
            f"{reference} does not lead to {manifest.digest} after it was put there {TRIES} times; "
            "something else moves it, or the registry does not keep it",
            phase="verify",
            reference=reference,
        )

    def _put(self, reference: str, manifest: Manifest, put: Callable[[str, Manifest], None]) -> None:
        try:
            put(reference, manifest)
        except Interrupted:  # another fence, behind the tag: it may stand already
            self.overtaken(reference, manifest)
            raise

    def published(self, reference: str, manifest: Manifest) -> bool:
        """Record that the tag is ours; False when a later image has it."""
        if not self._name:
            return True
        note = {"image": self._image, "digest": str(manifest.digest)}
        newest = self._knowledge.lane_published(self._name, self._sequence, note)
        return not self._lost(reference, manifest, *newest)

    def _lost(self, reference: str, manifest: Manifest, newest: int, note: Mapping[str, Any]) -> bool:
        if newest <= self._sequence:
            return False
        ours = str(manifest.digest)
        while (theirs := str(note.get("digest", ""))) not in ("", ours):
            head = self._end.head(reference)
            if head is None or head.digest != ours:
                break
            # This PUT may be late as well, so the lane is asked again after it. It is for the later image, so
            # it need not be ours to make.
            with shielded(fenced=False):
                self._end.put(reference, self._end.get(theirs))
            ours, (_, note) = theirs, self._knowledge.lane_newest(self._name)
        return True
