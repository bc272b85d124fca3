"""Clients with the logins of whoever runs this."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distworker.registry.pool import RegistryPool
from distworker.service.adapters import build_registries
from distworker.settings import load


@pytest.fixture(autouse=True)
def clean_environment_of_the_machine() -> None:
    """Instead of the one that hides the machine's accounts: they are what is tried here."""


@pytest.fixture(scope="session")
def pool() -> Iterator[RegistryPool]:
    """As a local run makes it."""
    made = build_registries(load(), local=True)
    yield made
    made.close()
