"""The demo as a newcomer runs it, on models that are already here."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.audio.pcm import read_wav
from satellite.cli.demo import configuration
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from tests.command_line import satellite
from tests.running_daemon import DATA
from tests.test_engines_stt import words

QUIETLY = "tts: {noise_scale: 0, noise_w_scale: 0}\nzeroconf: {enabled: false}\n"


def demo(models: Path, folder: Path, *arguments: str, more: str = "") -> subprocess.CompletedProcess[str]:
    config = folder / "config.yaml"
    config.write_text(f"{QUIETLY}{more}")
    return subprocess.run(
        [sys.executable, "-m", "satellite", "--config", str(config), "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "SATELLITE_MODELS": str(models), "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def heard_in(sound: Path, models: Path) -> str:
    """Return the French words in a sound file."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(
        str(Store(models).path(catalogue.find(Kind.STT, "base"))), compute_type="int8", cpu_threads=2
    )
    return " ".join(segment.text for segment in whisper.transcribe(str(sound), language="fr")[0])


@pytest.mark.models
def test_steps_are_printed_in_the_order_of_their_times(models_directory: Path, tmp_path: Path) -> None:
    result = demo(models_directory, tmp_path)
    assert result.returncode == 0, result.stderr
    parts = ("wake word okay_nabu", "transcript: What is the capital of France?", "Paris", "local", "demo-reply.wav")
    assert [part for part in parts if part not in result.stdout] == []
    assert len(read_wav(tmp_path / "demo-reply.wav")) > 10_000
    times = [float(at) for at in re.findall(r"^ +(\d+\.\d\d) s  ", result.stdout, re.MULTILINE)]
    assert len(times) >= 8
    assert times == sorted(times)
    assert "XNNPACK" not in result.stderr


@pytest.mark.models
def test_it_prints_one_object_and_takes_free_ports_beside_a_daemon(models_directory: Path, tmp_path: Path) -> None:
    wav = DATA / "commands" / "turn_on_the_lights.wav"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        options = ("--json", "--wav", str(wav), "--output", "answer.wav")
        result = demo(models_directory, tmp_path, *options, more=f"wyoming: {{host: 127.0.0.1, port: {port}}}\n")
    assert result.returncode == 0, result.stderr
    taken = f"free ports are taken, since others are in use: 127.0.0.1 port {port} (Address already in use)"
    assert taken in " ".join(result.stderr.split())
    outcome = json.loads(result.stdout)
    assert "lights" in outcome.pop("transcript").lower()
    assert outcome.pop("reply")
    assert outcome.pop("audio_seconds") > 0
    timings = outcome.pop("timings_ms")
    assert timings["voice_to_voice"] > timings["stt"] > 0
    assert outcome == {"wake_word": "okay_nabu", "provider": "local", "reply_wav": str(tmp_path / "answer.wav")}


@pytest.mark.models
@pytest.mark.slow
def test_it_hears_answers_and_speaks_french(french_models_directory: Path, tmp_path: Path) -> None:
    patient = "deadlines: {load_seconds: 170, stt_seconds: 60, chat_first_token_seconds: 60, tts_seconds: 170}\n"
    result = demo(french_models_directory, tmp_path, "--language", "fr", "--json", more=patient)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["wake_word"], outcome["provider"]) == ("okay_nabu", "local")
    assert words(outcome["transcript"]) == words("Quelle est la capitale de la France ?")
    assert outcome["reply"]
    assert "first sound ready (ff_siwis)" in result.stderr
    written, heard = (
        set(words(outcome["reply"])),
        set(words(heard_in(tmp_path / "demo-reply.wav", french_models_directory))),
    )
    assert len(written & heard) > len(written) / 2, (outcome["reply"], heard)


def test_an_unreadable_recording_is_reported_before_the_daemon_starts(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"no wav")
    result = satellite("demo", "--wav", str(tmp_path / "x.wav"))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: [audio-unreadable]")


def test_without_a_configuration_it_waits_for_a_machine_that_is_slow(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("deadlines: {tts_seconds: 7}")
    ours, theirs = (configuration(file, "fr").deadlines for file in (None, tmp_path / "config.yaml"))
    assert ours.tts_seconds > 100 < ours.stt_seconds
    assert theirs.tts_seconds == 7
