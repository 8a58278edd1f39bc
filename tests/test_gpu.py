"""What a machine tells of its NVIDIA GPUs."""

import logging
import subprocess
import sys

import pytest

from satellite.system.nvidia import gpus
from tests.waiting import PATIENCE_SECONDS


def test_each_gpu_is_described_and_their_absence_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for gpu in [*gpus(), *gpus()]:
        assert isinstance(gpu.name or "", str)
        assert 0 <= (gpu.load or 0) <= 1
        assert 0 <= (gpu.memory_used_bytes or 0) <= (gpu.memory_total_bytes or 0)
        assert (gpu.watts or 0) >= 0
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_asking_prints_nothing() -> None:
    code = "from satellite.system.nvidia import gpus; assert isinstance(gpus(), list); gpus()"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
