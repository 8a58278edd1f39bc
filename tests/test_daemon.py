"""The daemon as its own process: quick to answer, clear when it cannot start, gone when told to go."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from wyoming.asr import Transcribe
from wyoming.info import Describe
from wyoming.ping import Ping
from wyoming.tts import Synthesize

from satellite.audio.pcm import read_wav
from tests.command_line import SATELLITE, configuration, free_port, running, satellite, wait_for
from tests.running_daemon import DATA
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import connect, sound, types

LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav")


@pytest.mark.models
async def test_it_answers_from_the_first_moment_and_stops_when_told(models_directory: Path, tmp_path: Path) -> None:
    port = free_port()
    with running(configuration(tmp_path, models_directory, port)) as process:
        wait_for(port, process)
        async with connect(port) as client:
            await client.send(Describe(), Ping(text="early"))
            assert types(await client.until("pong")) == ["info", "pong"]
            await client.send(Synthesize(text="Hello."))
            assert len(sound(await client.until("audio-stop"))) > 10_000
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert "stopped" in log
        assert "Traceback" not in log
        assert "never retrieved" not in log


@pytest.mark.models
async def test_it_stops_in_the_middle_of_work(models_directory: Path, tmp_path: Path) -> None:
    port = free_port()
    with running(configuration(tmp_path, models_directory, port)) as process:
        wait_for(port, process)
        async with connect(port) as speaking, connect(port) as idle:
            await speaking.send(Synthesize(text="This is a long sentence to speak. " * 100))
            await speaking.until("audio-chunk")
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await idle.reader.read() == b""
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert "Traceback" not in log


async def test_without_models_it_serves_errors_that_say_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    with running(configuration(tmp_path, tmp_path / "models", port)) as process:
        wait_for(port, process)
        async with connect(port) as client:
            await client.send(Synthesize(text="Hello."))
            error = (await client.until("error"))[-1]
            assert error.data["code"] == "tts-not-ready"
            assert "satellite models pull" in error.data["text"]
            await client.send(Transcribe())
            await client.send_audio(LIGHTS)
            error = (await client.until("error"))[-1]
            assert error.data["code"] == "stt-not-ready"
            await client.send(Describe())
            info = (await client.until("info"))[-1]
            assert info.data["asr"][0]["installed"] is False
            assert info.data["tts"][0]["voices"] == []
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert "satellite models pull stt/tiny.en" in log
    assert not list((tmp_path / "models").glob("*/*"))


def test_a_wrong_configuration_is_exit_2_with_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("stt:\n  modle: tiny.en\n")
    for name in ("run", "check"):
        result = satellite("--config", str(file), name)
        assert result.returncode == 2
        assert f"{file}:2: stt.modle: unknown key; did you mean 'model'?" in result.stderr
        assert "Traceback" not in result.stderr


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


def test_check_names_missing_models(tmp_path: Path) -> None:
    result = satellite("check", "--json", SATELLITE_MODELS=str(tmp_path))
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert len(report["problems"]) == 4
    assert "satellite models pull stt/tiny.en" in result.stdout


@pytest.mark.models
def test_check_is_content_with_what_is_there(models_directory: Path) -> None:
    result = satellite("check", SATELLITE_MODELS=str(models_directory))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.models
def test_ask_and_say(models_directory: Path, tmp_path: Path) -> None:
    port = free_port()
    uri = f"tcp://127.0.0.1:{port}"
    with running(configuration(tmp_path, models_directory, port)) as process:
        wait_for(port, process)
        asked = satellite("ask", "What is the capital of France?", "--uri", uri)
        assert (asked.returncode, asked.stdout) == (0, "The capital of France is Paris.\n")
        spoken = satellite("say", "What is the capital of France?", "-o", str(tmp_path / "q.wav"), "--uri", uri)
        assert spoken.returncode == 0
        answer = tmp_path / "a.wav"
        heard = satellite("ask", str(tmp_path / "q.wav"), "-o", str(answer), "--json", "--uri", uri)
        assert heard.returncode == 0, heard.stderr
        outcome = json.loads(heard.stdout)
        assert "capital of France" in outcome["transcript"]
        assert "Paris" in outcome["reply"]
        assert outcome["provider"] == "local"
        assert len(read_wav(answer)) > 10_000
        unknown = satellite("say", "x", "-o", str(tmp_path / "x.wav"), "--voice", "nobody", "--uri", uri)
        assert unknown.returncode == 1
        assert "[tts-unknown-voice]" in unknown.stderr


def test_commands_without_a_daemon_say_so() -> None:
    result = satellite("ask", "hello", "--uri", "tcp://127.0.0.1:9")
    assert result.returncode == 5
    assert result.stderr.startswith("error: [daemon-unreachable] nothing answers at tcp://127.0.0.1:9")
    result = satellite("ask", "absent.wav", "--uri", "tcp://127.0.0.1:9")
    assert result.returncode == 1
    assert "[audio-unreadable]" in result.stderr
