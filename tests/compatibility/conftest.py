"""A Rust host on the database of the provider."""

from collections.abc import Iterator

import pytest

from tests.compatibility.rust_host import RustHost, rust_host


@pytest.fixture
def rust(database_url: str) -> Iterator[RustHost]:
    """A Rust host on the same database."""
    with rust_host(database_url) as host:
        yield host
