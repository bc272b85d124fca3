"""Does a store keep what it is given? A small object is written, read and deleted."""

from __future__ import annotations

import secrets

from distworker.blobstore.base import BlobStore
from distworker.errors import StoreUnavailable


def probe(store: BlobStore) -> None:
    """Raises StoreUnavailable, or what the store answers, when it cannot be written, read or deleted from."""
    key = f"probe-{secrets.token_hex(8)}"
    store.put_bytes(key, b"probe")
    try:
        if store.get_bytes(key, 16) != b"probe":
            raise StoreUnavailable(f"{store.describe()} did not give back what was written to it")
    finally:
        store.delete(key)
