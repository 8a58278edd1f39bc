"""The daemon from its start to its stop: the ports first, clear when it cannot start, gone when told to go."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from wyoming.asr import Transcribe
from wyoming.info import Describe
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize

from satellite.audio.pcm import read_wav
from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.rooms.room import LinkState
from satellite.tasks import Supervised
from tests.command_line import SATELLITE, configuration, free_port, listening_ports, running, satellite, wait_for
from tests.doubles.satellite import ScriptedSatellite
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS, until
from tests.wyoming_client import connect, sound, types

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")


@pytest.mark.models
async def test_it_answers_from_the_first_moment_and_stops_in_the_middle_of_work(
    models_directory: Path, tmp_path: Path
) -> None:
    port = free_port()
    with running(configuration(tmp_path, models_directory, port)) as process:
        wait_for(port, process)
        async with connect(port) as client, connect(port) as idle:
            await client.send(Describe(), Ping(text="early"))
            assert types(await client.until("pong")) == ["info", "pong"]
            await client.send(Synthesize(text="Hello."))
            assert len(sound(await client.until("audio-stop"))) > 10_000
            children = psutil.Process(process.pid).children(recursive=True)
            assert any("espeak_process.py" in argument for child in children for argument in child.cmdline())
            await client.send(Synthesize(text="This is a long sentence to speak. " * 100))
            await client.until("audio-chunk")
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await idle.reader.read() == b""
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert "stopped" in log
    assert "Traceback" not in log
    assert "never retrieved" not in log
    _, alive = psutil.wait_procs(children, PATIENCE_SECONDS)
    assert not alive


async def test_without_models_it_serves_errors_that_say_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with daemon_of(tmp_path / "models") as daemon, connect(daemon.ports["port"]) as client:
        await client.send(Synthesize(text="Hello."))
        error = (await client.until("error"))[-1]
        assert error.data["code"] == "tts-not-ready"
        assert "satellite models pull" in error.data["text"]
        await client.send(Transcribe())
        await client.send_audio(LIGHTS)
        assert await client.error() == "stt-not-ready"
        await client.send(Describe())
        info = (await client.until("info"))[-1].data
        assert (info["asr"][0]["installed"], info["tts"][0]["voices"]) == (False, [])
    assert "satellite models pull stt/tiny.en" in caplog.text
    assert not list((tmp_path / "models").glob("*/*"))


async def test_runs_are_kept_as_configured(tmp_path: Path) -> None:
    request = RunPipeline(PipelineStage.HANDLE, PipelineStage.HANDLE, announce_text="What time is it?")
    settings = "http: {runs_kept: 1, keep_transcripts: false}"
    async with daemon_of(tmp_path / "models", settings) as daemon, connect(daemon.ports["port"]) as client:
        for _ in range(2):
            await client.send(request)
            assert "handled" in types(await client.until("handled", "not-handled", "error"))
        await until(lambda: [run.outcome for run in daemon.runs.latest(9)] == ["done"])
        (run,) = daemon.runs.latest(9)
    assert (run.provider, run.heard, run.said) == ("commands", "", "")


@pytest.mark.slow
def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    port = free_port()
    config = configuration(tmp_path, tmp_path, port)
    with running(config) as process:
        wait_for(port, process)
        result = subprocess.run(
            [*SATELLITE, "--config", str(config), "run"], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.endswith(f"runs already at tcp://127.0.0.1:{port}: see satellite status")


@pytest.mark.parametrize(
    ("content", "status"),
    [(None, 1), ("log_level: loud", 2), ("a: [", 2), (b"\xff", 2), ("stt:\n  modle: tiny.en\n", 2)],
)
def test_only_what_waiting_may_mend_is_worth_another_start(
    tmp_path: Path, content: str | bytes | None, status: int
) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command, expected in (("run", status), ("check", 2)):
        result = satellite("--config", str(file), command)
        assert result.returncode == expected
        assert result.stderr.startswith("error: [config-invalid]")
    assert gc.isenabled()


def test_check_names_missing_models(tmp_path: Path) -> None:
    result = satellite("check", "--json", SATELLITE_MODELS=str(tmp_path))
    assert result.returncode == 1
    assert len(json.loads(result.stdout)["problems"]) == 4
    assert "satellite models pull stt/tiny.en" in result.stdout


@pytest.mark.models
def test_check_is_content_with_what_is_there(models_directory: Path) -> None:
    result = satellite("check", SATELLITE_MODELS=str(models_directory))
    assert (result.returncode, result.stderr) == (0, "")


def test_ask_and_say(daemon: RunningDaemon, tmp_path: Path) -> None:
    question, answer = tmp_path / "q.wav", tmp_path / "a.wav"
    asked = satellite("ask", "What is the capital of France?", "--uri", daemon.uri)
    assert (asked.returncode, asked.stdout) == (0, "The capital of France is Paris.\n")
    spoken = satellite("say", "What is the capital of France?", "-o", str(question), "--uri", daemon.uri)
    assert spoken.returncode == 0
    heard = satellite("ask", str(question), "-o", str(answer), "--json", "--uri", daemon.uri)
    assert heard.returncode == 0, heard.stderr
    outcome = json.loads(heard.stdout)
    assert "capital of France" in outcome["transcript"]
    assert "Paris" in outcome["reply"]
    assert outcome["provider"] == "local"
    assert len(read_wav(answer)) > 10_000
    unknown = satellite("say", "x", "-o", str(tmp_path / "x.wav"), "--voice", "nobody", "--uri", daemon.uri)
    assert unknown.returncode == 1
    assert "[tts-unknown-voice]" in unknown.stderr


# The order of the start.

LARGE = (
    *("ai_edge_litert", "ctranslate2", "fastapi", "faster_whisper", "hassil", "httpx", "jinja2", "numpy", "ollama"),
    *("onnxruntime", "openai", "piper", "prometheus_client", "pymicro_wakeword", "rich", "soxr", "starlette"),
    *("tokenizers", "uvicorn", "xllamacpp", "zeroconf"),
)

START = """
import asyncio, json, sys
from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.rooms.room import LinkState
from satellite.tasks import Supervised
from satellite.wire import client

class Watched(Daemon):
    async def _listen(self):
        await super()._listen()
        seen["imported"] = [name for name in sys.argv[2:] if name in sys.modules]

async def main():
    async with Watched(parse(sys.argv[1]), free_ports=True) as daemon:
        info = await client.described(f"tcp://127.0.0.1:{daemon.ports['port']}")
        seen["described"] = [bool(part) for part in (info.asr, info.tts, info.wake, info.handle)]
        seen["served"] = sorted(daemon.ports)
        seen["later"] = [name for name in sys.argv[2:] if name in sys.modules]

seen = {}
asyncio.run(main())
print(json.dumps(seen))
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


@pytest.mark.slow
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
    seen = json.loads(result.stdout)
    assert {"fastapi", "uvicorn", "zeroconf"} <= set(seen.pop("later"))
    assert seen == {
        "imported": [],
        "described": [True] * 4,
        "served": ["handle_port", "http", "port", "stt_port", "tts_port", "wake_port"],
    }


# The order of the stop.


def daemon_of(folder: Path, more: str = "") -> Daemon:
    config = f"models: {{directory: {folder}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n{more}"
    return Daemon(parse(config), free_ports=True)


async def fails() -> None:
    raise RuntimeError("it is on fire")


async def hangs() -> None:
    await asyncio.Event().wait()


async def test_a_part_that_fails_to_stop_keeps_no_other_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.daemon.daemon._STEP_SECONDS", 1.0)
    async with daemon_of(tmp_path) as daemon:
        daemon.house.hub.stop = fails  # type: ignore[method-assign]  # what breaks is to be a part of the daemon
        daemon.runs.stop = hangs  # type: ignore[method-assign]
    assert listening_ports().isdisjoint((daemon.ports["port"], daemon.ports["http"]))
    others = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == []
    assert "stopping the rooms has failed" in caplog.messages
    assert "stopping the record of runs takes longer than 1 s: it is abandoned" in caplog.messages


@pytest.mark.slow
async def test_a_room_that_does_not_end_holds_up_no_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with daemon_of(tmp_path, "rooms: [{name: attic, uri: 'tcp://127.0.0.1:9'}]") as daemon:
        hub = daemon.house.hub
        (attic,) = hub.satellites
        await hub._tasks[attic].stop()
        hub._tasks[attic] = Supervised("room attic", deaf, daemon.background, fatal=False)
        async with ScriptedSatellite(name="kitchen", mode="wake") as kitchen:
            config = parse(f"rooms: [{{name: kitchen, uri: '{kitchen.uri}'}}]")
            await hub.apply(config.rooms)
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
        release.set()
    assert "room attic does not end, and is abandoned" in caplog.text


async def test_a_daemon_that_cannot_load_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    daemon = daemon_of(tmp_path)
    daemon._assembly.load = fails  # type: ignore[method-assign]
    async with daemon:
        with pytest.raises(Exception, match="its log says why"):
            await daemon.ready()
        assert daemon.background.broken.is_set()
    assert "load failed: the daemon ends" in caplog.text
