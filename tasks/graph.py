"""From steps to messages: which task name and queue the step kinds have, and the worker's own sender of
messages.

The edges of the work graph stand in `distworker/plan/build.py` and in the ledger, the names and queues in
`distworker/service/submit.py` (producers need them without this package); this page only joins them to the
application, so that a worker publishes through the connections it has.
"""

from __future__ import annotations

from typing import Final

from distworker.service.submit import ROUTES, Producer
from tasks.app import app

#: Task name → the kind of step it runs.
KIND_OF: Final = {task: kind for kind, (task, _) in ROUTES.items()}

#: Sends one message for each admitted step; raises StateUnavailable when the broker does not take them, and
#: then nothing is lost: the ledger admits unclaimed steps again.
dispatch: Final = Producer(app)
