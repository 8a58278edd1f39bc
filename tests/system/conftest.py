"""A machine with a real systemd, for the tests beside this file; `make test-system` runs them, `make test` does not.

The files are run in the order of their names, and share the machine: a service is installed, lived with, and removed.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import REPOSITORY, Machine

collect_ignore_glob = [] if os.environ.get("SATELLITE_SYSTEM_TESTS") else ["test_*.py"]


@pytest.fixture(scope="session")
def offline() -> Path:
    """A folder with what an offline installation needs, kept from run to run; made by the installer, in a machine."""
    cache = Path(os.environ["SATELLITE_SYSTEM_TESTS"])
    lists = sorted((REPOSITORY / "requirements").iterdir())
    wanted = "".join(path.read_text() for path in (REPOSITORY / "pyproject.toml", *lists))
    stamp = cache / "offline" / "prepared-for"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(cache / "offline", ignore_errors=True)
        with Machine(cache / "root", index=True) as machine:
            machine.run("sh /media/satellite/install.sh --prepare /srv/offline", seconds=900)
            shutil.copytree(machine.root / "srv" / "offline", cache / "offline")
        stamp.write_text(wanted)
    return cache / "offline"


@pytest.fixture(scope="session")
def machine(offline: Path) -> Iterator[Machine]:
    """A booted Debian with what an offline installation needs in /media."""
    with Machine(Path(os.environ["SATELLITE_SYSTEM_TESTS"]) / "root", offline=offline) as booted:
        yield booted


@pytest.fixture(scope="session")
def service(machine: Machine) -> Machine:
    """The machine with the service installed, by an earlier test or now."""
    if machine.run("test -e /opt/satellite/current", check=False).returncode != 0:
        machine.run(machine.install, seconds=600)
    return machine


@pytest.fixture
def config(service: Machine) -> Iterator[str]:
    """The configuration's path; however the test changes it, it is afterwards as it was."""
    path = "/etc/satellite/config.yaml"
    service.run(f"cp -p {path} /srv/config.yaml")
    yield path
    service.run(f"cp -p /srv/config.yaml {path}; systemctl reload-or-restart satellite")
