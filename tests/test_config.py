"""The configuration file: the example is the defaults, and every mistake is named with its line and key."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from satellite.config import loader, settings
from satellite.config.loader import load, parse
from satellite.config.settings import Config
from satellite.errors import ConfigError
from tests.documented import documented

EXAMPLE = Path(__file__).parent.parent / "config.yaml.example"


def keys_of(settings: BaseModel, where: str = "") -> set[str]:
    """Return the dotted names of all settings."""
    found = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found |= keys_of(value, f"{where}{name}.") if isinstance(value, BaseModel) else {f"{where}{name}"}
    return found


def written(document: dict[str, object], where: str = "") -> set[str]:
    """Return the dotted names of all keys in a YAML document."""
    found = set()
    for name, value in document.items():
        inside = written(value, f"{where}{name}.") if isinstance(value, dict) and value else {f"{where}{name}"}
        found |= inside
    return found


def test_the_example_is_the_defaults() -> None:
    """Loading the example changes nothing."""
    assert load(EXAMPLE) == Config()


def test_the_example_has_every_setting() -> None:
    """No setting is missing from the example, and each has a comment above it."""
    text = EXAMPLE.read_text()
    assert keys_of(Config()) <= written(yaml.safe_load(text))
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith(("#", "- ")):
            assert lines[number - 1].lstrip().startswith("#"), f"line {number + 1} has no comment: {line}"


@pytest.mark.parametrize(
    "settings", [settings.Ollama, settings.OpenAICompatible, settings.WakeWordSettings, settings.Room]
)
def test_the_example_shows_optional_sections(settings: type[BaseModel]) -> None:
    """What is off by default stands in the example as a comment, whole."""
    text = EXAMPLE.read_text()
    for name in settings.model_fields:
        assert f"{name}:" in text


@pytest.mark.parametrize(
    "settings", [Config, settings.Wyoming, settings.Wake, settings.Stt, settings.Tts, settings.Chat, settings.Deadlines]
)
def test_every_setting_says_what_it_is(settings: type[BaseModel]) -> None:
    """Each field has a docstring, or is a section with one."""
    for name, field in settings.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert section or name in documented(settings), name


def test_nothing_written_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file and no file at all mean the embedded defaults."""
    monkeypatch.setattr(loader, "SYSTEM_CONFIG", tmp_path / "absent.yaml")
    assert load() == parse("") == parse("# nothing\n") == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stt:\n  modle: tiny.en", "c.yaml:2: stt.modle: unknown key; did you mean 'model'?"),
        ("sst: {}", "c.yaml:1: sst: unknown key; did you mean 'stt'?"),
        (
            "wyoming:\n\n  port: 70000",
            "c.yaml:3: wyoming.port: input should be less than or equal to 65535, found 70000",
        ),
        ("wyoming:\n  port: many", "c.yaml:2: wyoming.port: input should be a valid integer"),
        ("stt: 3", "c.yaml:1: stt: input should be"),
        ("stt:\n  device: gpu", "c.yaml:2: stt.device: input should be 'auto', 'cuda' or 'cpu', found 'gpu'"),
        ("wyoming:\n  stt_port: 10600", "c.yaml:2: wyoming.stt_port: port 10600 is also wyoming.port"),
        (
            "wyoming:\n  wake_port: 1234\n  tts_port: 1234",
            "c.yaml:3: wyoming.tts_port: port 1234 is also wyoming.wake_port",
        ),
        (
            "wyoming:\n  allow:\n    - 10.0.0.0/8\n    - home",
            "c.yaml:4: wyoming.allow[1]: 'home' is no address or network",
        ),
        ("stt:\n  model: tiny.em", "c.yaml:2: stt.model: unknown stt model 'tiny.em'; did you mean 'tiny.en'"),
        ("tts:\n  voice: fr_FR-siwi-medium", "did you mean 'fr_FR-siwis-medium'"),
        (
            "wake:\n  words:\n  - okay_nabu\n  - hey_jarvs",
            "c.yaml:4: wake.words[1]: unknown wake word 'hey_jarvs'; did you mean 'hey_jarvis'?",
        ),
        (
            "wake:\n  per_word:\n    alexaa: {}",
            "c.yaml:3: wake.per_word.alexaa: unknown wake word 'alexaa'; did you mean 'alexa'?",
        ),
        (
            "wake:\n  per_word:\n    alexa:\n      treshold: 1",
            "c.yaml:4: wake.per_word.alexa.treshold: unknown key; did you mean 'threshold'?",
        ),
        ("stt:\n  language: fr", "c.yaml:2: stt.language: model tiny.en does not know 'fr'"),
        ("chat:\n  providers:\n  - type: olama", "c.yaml:3: chat.providers[0]: input tag 'olama'"),
        ("chat:\n  providers:\n  - type: ollama", "c.yaml:3: chat.providers[0].model: field required"),
        (
            "chat:\n  providers:\n  - type: local\n    modle: x",
            "c.yaml:4: chat.providers[0].modle: unknown key; did you mean 'model'?",
        ),
        (
            "chat:\n  providers:\n  - type: local\n    model: smolm2",
            "c.yaml:4: chat.providers[0].model: unknown chat model",
        ),
        ("chat:\n  providers: []", "c.yaml:2: chat.providers: "),
        ("stt:\n  beam_size: 1\n  beam_size: 2", "c.yaml:3: beam_size: given twice"),
        ("a: [1", "c.yaml:1: not YAML"),
        ("- a", "c.yaml:1: expected keys and values, found list"),
        ("tts: {length_scale: .nan}", "c.yaml:1: tts.length_scale: "),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    """File, line and key, what was found and expected, and the nearest valid name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, name="c.yaml")
    assert message in str(caught.value)
    assert caught.value.code == "config-invalid"


def test_all_mistakes_come_at_once() -> None:
    """One run of `check` is enough to mend a file."""
    with pytest.raises(ConfigError) as caught:
        parse("stt:\n  modle: a\n  beam_size: x\nwyoming:\n  host: 3\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing file and one that is not text are configuration errors."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "binary.yaml")


def test_wake_words_of_ones_own_are_known(tmp_path: Path) -> None:
    """A word in the custom folder may be configured."""
    (tmp_path / "hey_house.tflite").touch()
    text = f"wake:\n  custom_directory: {tmp_path}\n  words: [hey_house]"
    assert parse(text).wake.words == ("hey_house",)
