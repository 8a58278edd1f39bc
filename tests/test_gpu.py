"""GPUs: CUDA is used, or an error where it is required; with `auto` the CPU takes over, and the log says so."""

import logging
import subprocess
import sys

import pytest

from satellite.engines.cuda import load_cublas
from satellite.engines.stt.whisper import _device
from satellite.errors import SpeechToTextError
from satellite.system.nvidia import gpus
from tests.waiting import PATIENCE_SECONDS

MISSING = "libcublas.so.12 cannot be loaded"


@pytest.mark.parametrize(
    ("devices", "missing", "reason"), [(0, None, "sees no CUDA device"), (1, MISSING, "libcublas.so.12 cannot")]
)
def test_required_cuda_that_cannot_be_used_is_an_error(devices: int, missing: str | None, reason: str) -> None:
    with pytest.raises(SpeechToTextError, match=reason, check=lambda error: error.code == "stt-not-ready"):
        _device("cuda", devices, lambda: missing)


def test_auto_falls_back_to_the_cpu_with_a_warning_where_there_is_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert _device("auto", 1, lambda: None) == "cuda"
    assert _device("cpu", 1, lambda: pytest.fail("looked for CUDA's libraries")) == "cpu"
    assert _device("auto", 0, lambda: None) == "cpu"
    assert caplog.text == ""
    assert _device("auto", 1, lambda: MISSING) == "cpu"
    assert MISSING in caplog.text


def test_a_missing_library_is_named_with_its_remedy() -> None:
    missing = load_cublas()
    assert missing is None or ("libcublas" in missing and "pip install" in missing)


def test_each_gpu_is_described_and_their_absence_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for gpu in [*gpus(), *gpus()]:
        assert isinstance(gpu.name or "", str)
        assert 0 <= (gpu.load or 0) <= 1
        assert 0 <= (gpu.memory_used_bytes or 0) <= (gpu.memory_total_bytes or 0)
        assert (gpu.watts or 0) >= 0
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_asking_for_gpus_prints_nothing() -> None:
    code = "from satellite.system.nvidia import gpus; assert isinstance(gpus(), list); gpus()"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
