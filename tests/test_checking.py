"""What `satellite check` finds on this machine for a valid configuration, and that whatever is accepted starts."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from satellite.audio.pcm import CANONICAL, write_wav
from satellite.cli.check import examine
from satellite.config import reference
from satellite.config.loader import parse
from satellite.config.settings import Config
from satellite.daemon.config_check import check
from satellite.daemon.daemon import Daemon
from satellite.errors import ConfigError
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store

QUIET = "zeroconf: {enabled: false}\nwyoming: {host: 127.0.0.1}\nhttp: {enabled: false}\n"


def found(text: str, store: Store) -> dict[str, str]:
    return {problem.key: problem.text for problem in examine(parse(text), store)}


@pytest.mark.models
async def test_a_voice_with_an_unusable_description(models_directory: Path, tmp_path: Path) -> None:
    spec = catalogue.find(Kind.TTS, "en_US-joe-medium")
    source = Store(models_directory).path(spec)
    shutil.copytree(source, tmp_path / source.relative_to(models_directory))
    store = Store(tmp_path)
    assert "tts.voice" not in found(QUIET, store)
    description = Path(f"{store.file(spec, '.onnx')}.json")
    for content in ("{", "{}", "[]", "null", '{"language": 3}', "\0", '{"espeak": {}}'):
        description.write_text(content)
        assert spec.name in found(QUIET, store)["tts.voice"]
    async with Daemon(parse(f"{QUIET}models: {{directory: {tmp_path}}}"), free_ports=True) as daemon:
        await daemon.ready()
        states = {stage.stage: stage.state for stage in daemon._status.stages()}
        assert (states["tts"], states["vad"]) == ("failed", "ready")


@pytest.mark.slow
async def test_what_is_missing_is_reported_with_its_key(tmp_path: Path) -> None:
    write_wav(tmp_path / "good.wav", bytes(3200), CANONICAL)
    (tmp_path / "bad.wav").write_bytes(b"none")
    text = f"""
models: {{directory: {tmp_path}}}
stt: {{model: tiny.en}}
chat: {{providers: [{{type: openai, model: m, api_key_file: {tmp_path}/groq.key}}, {{type: local}}]}}
home_assistant: {{url: "http://127.0.0.1:9", token_file: {tmp_path}/token}}
rooms: [{{name: kitchen, uri: "tcp://127.0.0.1:9", voice: fr_FR-siwis-medium}}]
microphone: {{file: {tmp_path}/bad.wav}}
home_assistant_satellite: {{enabled: true, awake_wav: {tmp_path}/good.wav, done_wav: {tmp_path}/absent.wav}}
"""
    problems = found(text, Store(tmp_path))
    assert set(problems) == {
        "wake.engine",
        "stt.model",
        "tts.voice",
        "chat.providers",
        "chat.providers[0].api_key_file",
        "home_assistant.token_file",
        "rooms[0].voice",
        "microphone.file",
        "home_assistant_satellite.done_wav",
    }
    assert "satellite models pull tts/fr_FR-siwis-medium" in problems["rooms[0].voice"]
    async with Daemon(parse(QUIET + text), free_ports=True) as daemon:
        await daemon.ready()
        assert daemon._status.state == "degraded"
        assert {"provider groq", "home_assistant", "stage tts"} <= {one.what for one in daemon._status.attention()}


def test_home_assistant_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME_ASSISTANT_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    store = Store(tmp_path)
    key, home = "home_assistant.token_file", f'{QUIET}home_assistant: {{url: "http://127.0.0.1:9"'
    assert "there is no token" in found(f"{home}}}", store)[key]
    assert key not in found(f"{home}, token: t}}", store)


WRONG: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**9, 1e-9, float("inf"), float("nan")),
    *("", " ", "x", "no", "a b", "http://[::1", "tcp://x:y", "/nowhere/file", "é" * 300),
    *([], ["x"], [None], {}, {"x": 1}, [["x"]]),
]


def keys(document: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*where, key)
            yield from keys(value, (*where, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield (*where, index)
            yield from keys(value, (*where, index))


def changed(document: Any, where: tuple[str | int, ...], value: Any) -> Any:
    if not where:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[where[0]] = changed(copy[where[0]], where[1:], value)
    return copy


def mutations() -> Iterator[tuple[int, str]]:
    """Yield every setting with wrong values, beside what keeps a test quiet."""
    document: dict[str, Any] = yaml.safe_load(reference.effective(Config()))
    document["wake"]["per_word"] = {"alexa": {"threshold": 0.5, "trigger_level": 1, "refractory_seconds": 2.0}}
    document["chat"]["providers"] += [
        {"type": "ollama", "model": "m", "url": "http://127.0.0.1:9", "num_ctx": 4096},
        {"type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1", "name": "x", "api_key_file": None},
    ]
    document["rooms"] = [document["host_room"] | {"name": "kitchen", "uri": "tcp://127.0.0.1:9"}]
    document["microphone"]["command"] = ["cat"]
    document["home_assistant"].update(url="http://127.0.0.1:9", token="t")
    quiet = {"zeroconf": {"enabled": False}, "wyoming": {"host": "127.0.0.1"}, "microphone": document["microphone"]}
    for number, where in enumerate(keys(document)):
        section: Any = {where[0]: document[str(where[0])]}
        for other, value in enumerate(WRONG):
            if (number + other) % 2 == 0:  # half of them at each place, the other half at the next
                text = yaml.safe_dump(quiet | changed(section, where, value), allow_unicode=True)
                yield number + other, text


@pytest.mark.slow
async def test_any_value_is_refused_with_its_key_or_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some of the values are relative paths
    monkeypatch.setenv("SATELLITE_MODELS", str(tmp_path))
    monkeypatch.setenv("SATELLITE_STATE", str(tmp_path))
    good = bad = 0
    for number, text in mutations():
        try:
            config = parse(text, name="c.yaml", check=check)
        except ConfigError as error:
            bad += 1
            message = str(error)
        else:
            good += 1
            message = ""
        assert all(line.startswith("c.yaml:") for line in message.splitlines()), (text, message)
        if (
            not message and number % 16 == 0
        ):  # a start takes a while: of what is accepted at one place, each place tries other values
            async with Daemon(config, free_ports=True) as daemon:
                assert daemon.ports
    assert good > 100
    assert bad > 1000
