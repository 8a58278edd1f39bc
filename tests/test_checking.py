"""What `satellite check` finds behind a good configuration, and that the start agrees with it, whatever is written."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
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
from tests.test_config_mistakes import MISTAKES

VOICE = "en_US-joe-medium"

QUIET = "zeroconf: {enabled: false}\nwyoming: {host: 127.0.0.1}\nhttp: {enabled: false}\n"


@pytest.fixture
def voices(models_directory: Path, tmp_path: Path) -> Path:
    """A folder of models with a copy of the default voice, to be spoiled."""
    spec = catalogue.find(Kind.TTS, VOICE)
    source = Store(models_directory).path(spec)
    folder = tmp_path / source.relative_to(models_directory)
    shutil.copytree(source, folder)
    return tmp_path


def found(text: str, store: Store) -> dict[str, str]:
    """Return the problems of a configuration, texts by keys."""
    return {problem.key: problem.text for problem in examine(parse(text), store)}


@pytest.mark.models
@pytest.mark.parametrize("content", ["{", "{}", "[]", "null", '{"language": 3}', "\0", '{"espeak": {}}'])
async def test_a_voice_whose_description_is_broken(voices: Path, content: str) -> None:
    store = Store(voices)
    assert "tts.voice" not in found(QUIET, store)
    spec = catalogue.find(Kind.TTS, VOICE)
    Path(f"{store.file(spec, '.onnx')}.json").write_text(content)
    told = found(QUIET, store)["tts.voice"]
    assert VOICE in told
    async with Daemon(parse(f"{QUIET}models: {{directory: {voices}}}"), free_ports=True) as daemon:
        await daemon.ready()
        state = {stage.stage: stage.state for stage in daemon._status.stages()}
        assert state["tts"] == "failed"
        assert state["vad"] == "ready"


async def test_what_lacks_is_named_with_its_key(tmp_path: Path) -> None:
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
    told = found(text, Store(tmp_path))
    assert set(told) == {
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
    assert "satellite models pull tts/fr_FR-siwis-medium" in told["rooms[0].voice"]
    async with Daemon(parse(QUIET + text), free_ports=True) as daemon:
        await daemon.ready()
        assert daemon._status.state == "degraded"
        assert {"provider groq", "home_assistant", "stage tts"} <= {one.what for one in daemon._status.attention()}


STARTS = """
import asyncio, json, sys
from pathlib import Path
from satellite.daemon.config_check import load
from satellite.daemon.daemon import Daemon
from satellite.errors import ConfigError

async def started(path):
    try:
        config = load(path)
    except ConfigError as error:
        return str(error)
    daemon = Daemon(config, free_ports=True)
    async with daemon:
        return sorted(daemon.ports)

for line in sys.stdin:
    try:
        result = asyncio.run(started(Path(line.strip())))
    except BaseException as error:
        result = {"broken": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
"""


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process that starts a daemon for every file named to it, and says what came of it."""
    errors = tmp_path_factory.mktemp("starter") / "errors"
    with (
        errors.open("w") as log,
        contextlib.chdir(errors.parent),  # some of the paths it is given are relative: both sides take them alike
        subprocess.Popen(
            [sys.executable, "-c", STARTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "SATELLITE_MODELS": str(errors.parent), "SATELLITE_STATE": str(errors.parent)},
        ) as process,
    ):
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def outcome(starter: subprocess.Popen[str], file: Path) -> Any:
    """Return the ports that a daemon with this configuration opened, or why it was refused."""
    assert starter.stdin is not None
    assert starter.stdout is not None
    print(file, file=starter.stdin, flush=True)
    return json.loads(starter.stdout.readline())


def refusal(text: str) -> str:
    """Return why a configuration is refused; nothing for a good one."""
    try:
        parse(text, name="c.yaml", check=check)
    except ConfigError as error:
        return str(error)
    return ""


def agree(text: str, file: Path, starter: subprocess.Popen[str]) -> bool:
    """Assert that `check` and the start say the same of a configuration, and return whether it is good."""
    file.write_text(text)
    started = outcome(starter, file)
    if refused := refusal(text):
        assert started == refused.replace("c.yaml:", f"{file}:")
        return False
    assert isinstance(started, list), (text, started)
    return True


def test_home_assistant_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME_ASSISTANT_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    store = Store(tmp_path)
    key, home = "home_assistant.token_file", f'{QUIET}home_assistant: {{url: "http://127.0.0.1:9"'
    assert "there is no token" in found(f"{home}}}", store)[key]
    assert key not in found(f"{home}, token: t}}", store)


@pytest.mark.slow
def test_what_is_refused_does_not_start(tmp_path: Path, starter: subprocess.Popen[str]) -> None:
    for text, _ in MISTAKES:
        assert not agree(text, tmp_path / "c.yaml", starter)


WRONG: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**9, 1e-9, float("inf"), float("nan")),
    *("", " ", "x", "no", "a b", "http://[::1", "tcp://x:y", "/nowhere/file", "é" * 300),
    *([], ["x"], [None], {}, {"x": 1}, [["x"]]),
]


def keys(document: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where every value of a document stands."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*where, key)
            yield from keys(value, (*where, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield (*where, index)
            yield from keys(value, (*where, index))


def changed(document: Any, where: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with another value at a place."""
    if not where:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[where[0]] = changed(copy[where[0]], where[1:], value)
    return copy


def everything() -> dict[str, Any]:
    """Return the example with one of each of what stands there as a comment."""
    document: dict[str, Any] = yaml.safe_load(reference.effective(Config()))
    document["wake"]["per_word"] = {"alexa": {"threshold": 0.5, "trigger_level": 1, "refractory_seconds": 2.0}}
    document["chat"]["providers"] += [
        {"type": "ollama", "model": "m", "url": "http://127.0.0.1:9", "num_ctx": 4096},
        {"type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1", "name": "x", "api_key_file": None},
    ]
    document["rooms"] = [document["host_room"] | {"name": "kitchen", "uri": "tcp://127.0.0.1:9"}]
    document["microphone"]["command"] = ["cat"]
    document["home_assistant"].update(url="http://127.0.0.1:9", token="t")
    return document


def mutations() -> Iterator[tuple[int, str]]:
    """Yield every key of the example with every wrong value, beside what keeps a test quiet."""
    document = everything()
    quiet = {"zeroconf": {"enabled": False}, "wyoming": {"host": "127.0.0.1"}, "microphone": document["microphone"]}
    for number, where in enumerate(keys(document)):
        section: Any = {where[0]: document[str(where[0])]}
        for other, value in enumerate(WRONG):
            text = yaml.safe_dump(quiet | changed(section, where, value), allow_unicode=True)
            yield number + other, text


@pytest.mark.slow
def test_whatever_is_written_it_is_refused_by_name_or_starts(tmp_path: Path, starter: subprocess.Popen[str]) -> None:
    good = bad = 0
    for number, text in mutations():
        if refused := refusal(text):
            bad += 1
            assert all(line.startswith("c.yaml:") for line in refused.splitlines()), (text, refused)
            continue
        good += 1
        if number % 16 == 0:  # a start takes a while: of what is accepted at one place, each place tries other values
            assert agree(text, tmp_path / "c.yaml", starter)
    assert good > 200
    assert bad > 2000
