"""The order of the start: the ports first, then everything that takes time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import satellite

pytestmark = pytest.mark.slow

LARGE = (
    "ai_edge_litert",
    "ctranslate2",
    "fastapi",
    "faster_whisper",
    "hassil",
    "httpx",
    "jinja2",
    "numpy",
    "ollama",
    "onnxruntime",
    "openai",
    "piper",
    "prometheus_client",
    "pymicro_wakeword",
    "rich",
    "soxr",
    "starlette",
    "tokenizers",
    "uvicorn",
    "xllamacpp",
    "zeroconf",
)

START = """
import asyncio, json, sys
from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.wire import client

class Watched(Daemon):
    async def _listen(self):
        await super()._listen()
        told["imported"] = [name for name in sys.argv[2:] if name in sys.modules]

async def main():
    async with Watched(parse(sys.argv[1]), free_ports=True) as daemon:
        info = await client.described(f"tcp://127.0.0.1:{daemon.ports['port']}")
        told["described"] = [bool(part) for part in (info.asr, info.tts, info.wake, info.handle)]
        told["served"] = sorted(daemon.ports)
        told["later"] = [name for name in sys.argv[2:] if name in sys.modules]

told = {}
asyncio.run(main())
print(json.dumps(told))
"""

CONFIG = """
models: {directory: %s}
wyoming: {host: 127.0.0.1}
zeroconf: {address: 127.0.0.1}
home_assistant: {url: "http://127.0.0.1:9"}
chat:
  providers:
    - {type: ollama, model: "phi3:mini", url: "http://127.0.0.1:9"}
    - {type: openai, model: llama, url: "http://127.0.0.1:9/v1"}
    - {type: local}
rooms: [{name: kitchen, uri: "tcp://127.0.0.1:9"}]
"""


def test_the_ports_open_before_anything_large_is_imported(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", START, CONFIG % tmp_path, *LARGE],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "GROQ_API_KEY": "none"},
        cwd=Path(__file__).parent.parent,
    )
    assert result.stdout, result.stderr
    told = json.loads(result.stdout)
    assert told["imported"] == []
    assert told["described"] == [True] * 4
    assert told["served"] == ["handle_port", "http", "port", "stt_port", "tts_port", "wake_port"]
    assert {"fastapi", "uvicorn", "zeroconf"} <= set(told["later"])


@pytest.mark.parametrize(("content", "status"), [(None, 1), ("log_level: loud", 2), ("a: [", 2), (b"\xff", 2)])
def test_what_may_be_mended_by_waiting_is_worth_another_start(
    tmp_path: Path, content: str | bytes | None, status: int
) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = satellite("--config", str(file), "run")
    assert result.returncode == status
    assert result.stderr.startswith("error: [config-invalid]")
