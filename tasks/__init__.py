"""The Celery face of distworker: `celery -A tasks worker` and `celery -A tasks flower`.

It only spreads, runs and shows work: what is to be done and what is done stand in the ledger
(`distworker.state`), so a lost or doubled message can delay work, never lose or corrupt it. Nothing in
`distworker` imports this package.
"""

from tasks.app import app

__all__ = ["app"]
