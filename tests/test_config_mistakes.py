"""Mistakes that people make in the configuration: each is one line with file, line, key, and what to write instead."""

from pathlib import Path

import pytest
import yaml

from satellite.config.loader import parse
from satellite.daemon.config_check import check
from satellite.errors import ConfigError
from tests.running_daemon import DATA

OLLAMA = "chat:\n  providers:\n    - type: ollama\n      model: m\n      url: "
OPENAI = "chat:\n  providers:\n    - type: openai\n      model: m\n      url: "
KITCHEN = "rooms:\n  - {name: kitchen, uri: 'tcp://192.0.2.1:10700'}\n"

MISTAKES = [
    *((one["config"], one["message"]) for one in yaml.safe_load((DATA / "config_mistakes.yaml").read_text())),
    (f"zeroconf:\n  name: {'é' * 32}", "2: zeroconf.name: expected a name of at most 63 bytes"),
    (
        f"{OLLAMA}'http://gpu:1/{'x' * 70000}'",
        "5: chat.providers[0].url: expected an address of at most 2000 characters",
    ),
    (f"models:\n  directory: /{'x' * 300}", "2: models.directory: expected a shorter path"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, name="c.yaml", check=check)
    assert (f"c.yaml:{message}" if message[0].isdigit() else message) in str(caught.value)
    assert caught.value.code == "config-invalid"
    assert "s3cret" not in str(caught.value)
    assert "value error" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("written", "language"),
    [
        ("en-US", "en-US"), ("en_gb.UTF-8", "en-GB"), ("auto", None), ("nb", "no"), ('"no"', "no"), ("nn", "nn"),
        ("pt-BR", "pt-BR"), ("cmn-Hant-TW", "zh-Hant-TW"), ("SR_LATN", "sr-Latn"), ("es-419", "es-419"),
        ("de-CH", "de"), ("ca-valencia", "ca"),
    ],
)  # fmt: skip
def test_a_language_is_named_by_whispers_code_and_keeps_its_region(written: str, language: str | None) -> None:
    config = parse(f"stt: {{model: base, language: {written}}}\nmicrophone: x\nhost_room: {{language: {written}}}")
    assert config.stt.language == config.host_room.language == language


@pytest.mark.parametrize(
    ("written", "languages"),
    [
        ("languages: [fr_FR, en-GB, en]", ("fr-FR", "en-GB")),
        ("languages: zh-TW\nstt: {model: base, language: zh}\nmicrophone: x\nhost_room: {language: zh}", ("zh-TW",)),
        ("languages: fr", ("fr",)),
        ("languages: [nb]\nstt: {model: base, language: 'no'}", ("no",)),
        ("stt: {model: base, language: de}", ("de",)),
        ("stt: {model: base}", ()),
    ],
)
def test_the_languages_of_a_house_are_those_or_the_one_of_speech_to_text(
    written: str, languages: tuple[str, ...]
) -> None:
    assert parse(written).spoken_languages == languages


@pytest.mark.parametrize(
    "text",
    [
        "wyoming: {host: localhost}",
        "wyoming: {host: '[::]'}",
        "wyoming: {host: [192.168.1.2, 'fd00::1', gpu.lan]}",
        "http: {host: localhost}",
        f"{OLLAMA}'https://me:pass@ollama.example/behind/proxy'",
        f"{OLLAMA}'http://[fe80::1%25eth0]:11434'",
        f"{OLLAMA}'http://gpu_box:11434/'",
        f"{OLLAMA}'http://bücher.example:11434'",
        f"{OPENAI}'https://api.groq.com/openai/v1/'",
        "home_assistant: {url: 'http://homeassistant.local:8123/'}",
        "home_assistant: {url: 'http://homeassistant.local:8123/api'}",
        "stt: {uri: 'tcp://[::1]:10300'}",
        "zeroconf: {name: 'Café (upstairs)', address: 'fd00::10'}",
        "chat: {providers: [{type: ollama, model: m, url: 'http://a:1'}, {type: ollama, model: m, url: 'http://b:1'}]}",
        f"{KITCHEN}  - {{name: kitchen 2, uri: 'tcp://192.0.2.1:10701'}}",
        "wake: {custom_directory: /nowhere/yet}",
    ],
)
def test_valid_values_are_accepted(text: str) -> None:
    parse(text, check=check)


def test_a_folder_of_wake_words_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    folder.symlink_to(folder)
    with pytest.raises(ConfigError) as caught:
        parse(f"wake:\n  custom_directory: {folder}\n  words: [my_word]", name="c.yaml", check=check)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("c.yaml:2: wake.custom_directory: the folder cannot be read: Too many levels")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("stt:\n  modle: a\n  beam_size: x\nwyoming:\n  host: 3\n")
    assert len(str(caught.value).splitlines()) == 3


def test_custom_wake_words_are_known(tmp_path: Path) -> None:
    (tmp_path / "hey_house.tflite").touch()
    text = f"wake:\n  custom_directory: {tmp_path}\n  words: [hey_house]"
    assert parse(text, check=check).wake.words == ("hey_house",)
