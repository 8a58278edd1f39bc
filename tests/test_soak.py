"""A short soak: what `make soak` does for minutes, on a machine of any speed."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.models, pytest.mark.slow]


def test_the_daemon_holds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    how = ("--minutes", "0.5", "--frames", "20000", "--connections", "40", "--any-speed", "--log", str(log))
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", *how],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    told = log.read_text(encoding="utf-8")[-5000:] if log.exists() else ""
    assert result.returncode == 0, f"{result.stderr}\n{result.stdout}\n{told}"
