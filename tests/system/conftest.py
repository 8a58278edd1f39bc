"""A machine with a real systemd, for the tests beside this file; `make test-system` runs them, `make test` does not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine

collect_ignore_glob = [] if os.environ.get("SATELLITE_SYSTEM_TESTS") else ["test_*.py"]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted Debian with what an offline installation needs in /media."""
    with Machine(Path(os.environ["SATELLITE_SYSTEM_TESTS"])) as booted:
        yield booted
