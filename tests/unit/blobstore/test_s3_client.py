"""The S3 client is made from a reduced description of S3, and from the whole one where that does not do."""

from __future__ import annotations

import pytest

from distworker.blobstore import s3_client, s3_model
from distworker.blobstore.s3 import S3Options, S3Store


@pytest.fixture
def options() -> S3Options:
    """A server that nobody asks anything."""
    return S3Options(
        bucket="b", endpoint="http://127.0.0.1:1", region="us-east-1", access_key="a", secret_key="b"
    )


def test_the_client_knows_the_operations_that_are_used_and_no_others(options: S3Options) -> None:
    """What is left out costs every worker memory for life."""
    store = S3Store(options)

    assert set(store.client.meta.service_model.operation_names) == set(s3_model.OPERATIONS)

    store.close()


def test_a_library_that_needs_more_gets_its_whole_description(
    options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a release whose data has not what we look for, the store works all the same."""

    class Missing(s3_model.LeanLoader):
        def load_service_model(
            self, service_name: str, type_name: str, api_version: str | None = None
        ) -> object:
            raise KeyError("documentation")

    monkeypatch.setattr(s3_client, "LeanLoader", Missing)
    store = S3Store(options)

    assert "PutBucketAcl" in store.client.meta.service_model.operation_names

    store.close()
