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
from satellite.config.rooms import BrowserRoomSettings, WyomingRoomSettings
from satellite.config.settings import Config, WakeWordSettings

EXAMPLE = Path(__file__).parent.parent / "config.yaml.example"


SECTIONS = [one for one in Settings.__subclasses__() if one.__module__.startswith("satellite.")]


def blocks(text: str, title: str) -> list[str]:
    """Return the paragraphs of one part of the example, with their settings no longer commented out."""
    _, _, part = text.partition(f"## ---- {title} ")
    paragraphs = part.partition("## ----")[0].split("\n\n")[1:]
    return [re.sub(r"(?m)^#(?!#)", "", paragraph) for paragraph in paragraphs]


def test_the_example_is_current() -> None:
    assert EXAMPLE.read_text() == reference.example()


def test_the_example_is_the_defaults() -> None:
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
    basic = "\n".join(blocks(EXAMPLE.read_text(), "What most houses set"))
    assert len(re.findall(r"(?m)^ +\w+:|^rooms:", re.sub(r"(?m)^##.*$", "", basic))) == 15


@pytest.mark.parametrize(
    "section",
    [OllamaSettings, OpenAISettings, LocalSettings, WakeWordSettings, WyomingRoomSettings, BrowserRoomSettings],
)
def test_the_example_shows_optional_sections(section: type[BaseModel]) -> None:
    about = str(section.__doc__).partition("\n")[0]
    (block,) = [
        one
        for one in blocks(EXAMPLE.read_text(), "What lists hold")
        if about in " ".join(one.replace("##", "").split())
    ]
    assert re.findall(r"(?m)^ +-? ?(\w+):", block) == list(section.model_fields)


@pytest.mark.parametrize("text", reference.RECIPES.values(), ids=reference.RECIPES.keys())
def test_recipes_are_configurations(text: str) -> None:
    assert text in "\n".join(blocks(EXAMPLE.read_text(), "Recipes")) + "\n"
    assert parse(text) != Config()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_is(section: type[Settings]) -> None:
    for name, field in section.model_fields.items():
        inner = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert inner or name in reference.descriptions(section), name


def test_the_schema_describes_every_setting() -> None:
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
    config = parse("stt: {threads: 2}\nhttp: {token: abcdefgh}\nmicrophone: USB\n")
    text = reference.effective(config)
    assert "abcdefgh" not in text
    assert parse(text.replace("'**********'", "abcdefgh")) == config


def test_nothing_written_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "SYSTEM_CONFIG", tmp_path / "absent.yaml")
    assert load() == parse("") == parse("# nothing\n") == Config()
