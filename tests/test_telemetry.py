"""No library reports to its maker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import satellite, onnxruntime
from faster_whisper.utils import get_assets_path
onnxruntime.InferenceSession(f"{get_assets_path()}/silero_vad_v6.onnx", providers=["CPUExecutionProvider"])
"""


@pytest.mark.slow
def test_onnx_runtime_keeps_no_identifier_of_this_machine(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run([sys.executable, "-c", LOAD], check=True, timeout=120, env=environment)
    assert list(tmp_path.rglob("*.onnxruntime")) == []
