"""What a crash of one of pytest's workers costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

PASSES = "import os\ndef test_before(): pass\n"
CRASHES = PASSES + "def test_crash(): os._exit(9)\ndef test_after(): pass\n"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_crashes_is_one_failure_and_the_run_ends(workers: str, tmp_path: Path) -> None:
    for number, text in enumerate([PASSES, PASSES, CRASHES, PASSES, PASSES]):
        (tmp_path / f"test_{number}.py").write_text(text, encoding="utf-8")
    options = ("-p", "xdist", "-p", "tests.scheduling", "-n", workers, "--dist", "loadfile", "--no-loadscope-reorder")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert "crashed while running 'test_2.py::test_crash'" in done.stdout
    assert "1 failed, 6 passed" in done.stdout
