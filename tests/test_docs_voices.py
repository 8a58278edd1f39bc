"""The Wyoming server in docs/voices.md works as a stage of the daemon; only its PyTorch model is another."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from satellite.config.settings import TtsSettings
from satellite.engines.protocols import VoiceChoice
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer
from satellite.errors import Stage
from tests.command_line import free_port
from tests.waiting import PATIENCE_SECONDS

PAGE = Path(__file__).parent.parent / "docs" / "voices.md"

MODEL = """
import numpy as np

class Piece:
    def cpu(self):
        return self

    def numpy(self):
        return np.full(2048, 0.5, np.float32)

class SopranoTTS:
    def infer_stream(self, text, chunk_size):
        for _ in text.split()[::chunk_size]:
            yield Piece()
"""
"""The part of soprano-tts 0.2 that the server calls: a tensor of 2048 samples at 32 kHz for each piece."""


@pytest.mark.slow
async def test_the_server_for_soprano_is_a_stage_of_the_daemon(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "server.py").write_text(script)
    (tmp_path / "soprano.py").write_text(MODEL)
    uri = f"tcp://127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    server = await asyncio.create_subprocess_exec(sys.executable, tmp_path / "server.py", uri, env=environment)
    try:
        hosts = Hosts(Stage.TTS, [uri], PATIENCE_SECONDS)
        voices = RemoteSynthesizer(hosts, TtsSettings(voice="soprano"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not voices.voices:
                await asyncio.sleep(0.05)
                await hosts.load()
        speaker = await voices.speaker(VoiceChoice())
        sound = b"".join([pcm async for pcm in speaker.speak("Three short words.")])
    finally:
        server.terminate()
        await server.wait()
    assert (speaker.voice.name, speaker.voice.languages, speaker.format.rate) == ("soprano", ("en",), 32_000)
    assert len(sound) == 3 * 2048 * 2
    assert any(sound)
