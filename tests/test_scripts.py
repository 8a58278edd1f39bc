"""The scripts behind `make`: what they ask of a machine, and that they ask for all of it before anything takes long."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("sh", "dirname", "cat", "cksum", "id", "rm", "mkdir")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder with what any system has, and a Python; without a browser, without a package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    (folder / "python3").symlink_to(sys.executable)
    return folder


def script(path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command], cwd=ROOT, env={"PATH": str(path), **environment}, capture_output=True, text=True, timeout=120
    )


def test_all_missing_packages_are_named_at_once(bare_path: Path) -> None:
    needed = 'python3-venv:ensurepip.py coreutils:"no-such cat" one:"no-such no-such-either" two:libno-such.so.9'
    code = f'. scripts/common.sh; ensure_packages "the tests" {needed} three:no_such.py'
    result = script(bare_path, "sh", "-euc", code, "scripts/test")
    assert result.returncode == 1
    assert result.stderr == (
        "error: the tests need one two three; on Debian or Ubuntu: sudo apt install one two three\n"
    )


def test_the_tests_ask_for_programs_before_they_install(bare_path: Path, tmp_path: Path) -> None:
    result = script(bare_path, "scripts/test", VENV=str(tmp_path / "venv"), HOME=str(tmp_path))
    assert result.returncode == 1
    assert "chromium" in result.stderr
    assert "sudo apt install" in result.stderr
    assert not (tmp_path / "venv").exists()
