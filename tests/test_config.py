"""The configuration: the example shows the defaults, and every mistake is named with its line and key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from satellite.config import loader, reference
from satellite.config.base import Settings
from satellite.config.chat import LocalSettings, OllamaSettings, OpenAISettings
from satellite.config.loader import load, parse
from satellite.config.rooms import WyomingRoomSettings
from satellite.config.settings import Config, WakeWordSettings
from satellite.daemon.config_check import check
from satellite.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "config.yaml.example"


SECTIONS = [one for one in Settings.__subclasses__() if one.__module__.startswith("satellite.")]


def blocks(text: str, title: str) -> list[str]:
    """Return the paragraphs of one part of the example, with their settings no longer commented out."""
    _, _, part = text.partition(f"## ---- {title} ")
    paragraphs = part.partition("## ----")[0].split("\n\n")[1:]
    return [re.sub(r"(?m)^#(?!#)", "", paragraph) for paragraph in paragraphs]


def test_the_example_is_current() -> None:
    """The file in the repository is what `satellite config --example` prints."""
    assert EXAMPLE.read_text() == reference.example()


def test_the_example_is_the_defaults() -> None:
    """Loading it changes nothing, and neither does a setting that is no longer commented out."""
    assert load(EXAMPLE) == Config()
    shown: dict[str, Any] = {}
    for title in ("What most houses set", "Everything else, by section"):
        for block in blocks(EXAMPLE.read_text(), title):
            assert parse(block) == Config(), block
            for name, value in (yaml.safe_load(block) or {}).items():
                shown[name] = shown.get(name, {}) | value if isinstance(value, dict) else value
    assert shown.keys() == Config.model_fields.keys()
    for name, value in Config():
        assert not isinstance(value, BaseModel) or shown[name].keys() == type(value).model_fields.keys(), name


def test_the_basic_settings_are_few() -> None:
    """Fifteen come first."""
    basic = "\n".join(blocks(EXAMPLE.read_text(), "What most houses set"))
    assert len(re.findall(r"(?m)^ +\w+:|^rooms:", re.sub(r"(?m)^##.*$", "", basic))) == 15


@pytest.mark.parametrize(
    "section", [OllamaSettings, OpenAISettings, LocalSettings, WakeWordSettings, WyomingRoomSettings]
)
def test_the_example_shows_optional_sections(section: type[BaseModel]) -> None:
    """What lists and mappings hold is shown whole."""
    about = str(section.__doc__).partition("\n")[0]
    (block,) = [
        one
        for one in blocks(EXAMPLE.read_text(), "What lists hold")
        if about in " ".join(one.replace("##", "").split())
    ]
    assert re.findall(r"(?m)^ +-? ?(\w+):", block) == list(section.model_fields)


@pytest.mark.parametrize("text", reference.RECIPES.values(), ids=reference.RECIPES.keys())
def test_recipes_are_configurations(text: str) -> None:
    """Each can be used as it stands in the example, and changes something."""
    assert text in "\n".join(blocks(EXAMPLE.read_text(), "Recipes")) + "\n"
    assert parse(text) != Config()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_is(section: type[Settings]) -> None:
    """Each field has a docstring, or is a section with one."""
    for name, field in section.model_fields.items():
        inner = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert inner or name in reference.descriptions(section), name


def test_the_schema_describes_every_setting() -> None:
    """An editor explains each, and takes what the daemon takes: one address for a list, a name for a device."""
    schema = reference.schema()
    stt = schema["$defs"]["SttSettings"]["properties"]
    assert stt["device"]["enum"] == ["auto", "cuda", "cpu"]
    assert stt["beam_size"]["maximum"] == 10
    assert {"type": "string"} in schema["$defs"]["WyomingSettings"]["properties"]["host"]["anyOf"]
    section, alone = schema["$defs"]["SoundDeviceSettings"]["anyOf"]
    assert "string" in alone["type"]
    for definition in (section, *(one for one in schema["$defs"].values() if "properties" in one)):
        for name, about in definition["properties"].items():
            assert about["description"], name


def test_the_values_in_use_can_be_read_again() -> None:
    """They are a configuration, without the secrets."""
    config = parse("stt: {threads: 2}\nhttp: {token: abcdefgh}\nmicrophone: USB\n")
    text = reference.effective(config)
    assert "abcdefgh" not in text
    assert parse(text.replace("'**********'", "abcdefgh")) == config


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
            "c.yaml:4: wyoming.allow[1]: expected an address or a network",
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
        ("? [a, b]\n: c", "c.yaml:1: not YAML: found unhashable key"),
        ("- a", "c.yaml:1: expected keys and values, found list"),
        ("tts: {length_scale: .nan}", "c.yaml:1: tts.length_scale: "),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    """File, line and key, what was found and expected, and the nearest valid name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, name="c.yaml", check=check)
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
    assert parse(text, check=check).wake.words == ("hey_house",)
