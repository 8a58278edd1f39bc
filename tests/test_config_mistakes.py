"""Mistakes that people make in the configuration: each is one line with file, line, key, and what to write instead."""

from pathlib import Path

import pytest

from satellite.config.loader import parse
from satellite.daemon.config_check import check
from satellite.errors import ConfigError

OLLAMA = "chat:\n  providers:\n    - type: ollama\n      model: m\n      url: "
OPENAI = "chat:\n  providers:\n    - type: openai\n      model: m\n      url: "
URL, GROQ = "5: chat.providers[0].url: ", "expected the base of the API, without /chat/completions: https://x/v1"
KITCHEN = "rooms:\n  - {name: kitchen, uri: 'tcp://192.0.2.1:10700'}\n"

MISTAKES = [
    # The document, its keys and their types.
    ("stt:\n  modle: tiny.en", "2: stt.modle: unknown key; did you mean 'model'?"),
    ("sst: {}", "1: sst: unknown key; did you mean 'stt'?"),
    ("wyoming:\n\n  port: 70000", "3: wyoming.port: input should be less than or equal to 65535, found 70000"),
    ("wyoming:\n  port: many", "2: wyoming.port: input should be a valid integer"),
    ("stt: 3", "1: stt: input should be"),
    ("stt:\n  device: gpu", "2: stt.device: input should be 'auto', 'cuda' or 'cpu', found 'gpu'"),
    ("wyoming:\n  stt_port: 10600", "2: wyoming.stt_port: port 10600 is also wyoming.port"),
    ("wyoming:\n  allow:\n    - 10.0.0.0/8\n    - home", "4: wyoming.allow[1]: expected an address or a network"),
    ("stt:\n  model: tiny.em", "2: stt.model: unknown stt model 'tiny.em'; did you mean 'tiny.en'"),
    ("tts:\n  voice: fr_FR-siwi-medium", "did you mean 'fr_FR-siwis-medium'"),
    (
        "wake:\n  words:\n  - okay_nabu\n  - hey_jarvs",
        "4: wake.words[1]: unknown wake word 'hey_jarvs'; did you mean 'hey_jarvis'?",
    ),
    (
        "wake:\n  per_word:\n    alexaa: {}",
        "3: wake.per_word.alexaa: unknown wake word 'alexaa'; did you mean 'alexa'?",
    ),
    (
        "wake:\n  per_word:\n    alexa:\n      treshold: 1",
        "4: wake.per_word.alexa.treshold: unknown key; did you mean 'threshold'?",
    ),
    ("stt:\n  language: fr", "2: stt.language: model tiny.en does not know 'fr'"),
    ("languages: [fr]", "1: languages[0]: model tiny.en does not know 'fr'"),
    ("languages: [fr, klingon]", "1: languages[1]: expected the code of a language that Whisper knows"),
    ("languages: [auto]", "1: languages[0]: input should be a valid string"),
    (
        "languages: [no, en]",
        '1: languages[0]: input should be a valid string, found False; quote what is to be text: "no"',
    ),
    (
        "languages: [fr, en]\nstt:\n  model: base\n  language: fr",
        "4: stt.language: all that is said would be taken for 'fr', but languages is fr, en; expected one of the two",
    ),
    (
        "languages: fr\nstt:\n  model: base\n  language: de",
        "4: stt.language: all that is said would be taken for 'de', but languages is fr; expected one of the two",
    ),
    (
        "languages: [fr, en]\nstt: {model: base}\nmicrophone: x\nhost_room:\n  language: de",
        "5: host_room.language: 'de' is not in languages; expected one of fr, en",
    ),
    ("chat:\n  providers:\n  - type: olama", "3: chat.providers[0]: input tag 'olama'"),
    ("chat:\n  providers:\n  - type: ollama", "3: chat.providers[0].model: field required"),
    (
        "chat:\n  providers:\n  - type: local\n    modle: x",
        "4: chat.providers[0].modle: unknown key; did you mean 'model'?",
    ),
    ("chat:\n  providers:\n  - type: local\n    model: smolm2", "4: chat.providers[0].model: unknown chat model"),
    ("chat:\n  providers: []", "2: chat.providers: "),
    ("stt:\n  beam_size: 1\n  beam_size: 2", "3: beam_size: given twice"),
    ("a: [1", "1: not YAML"),
    ("? [a, b]\n: c", "1: not YAML: found unhashable key"),
    ("- a", "1: expected keys and values, found list"),
    ("tts: {length_scale: .nan}", "1: tts.length_scale: "),
    # Addresses.
    (f"{OLLAMA}'http://127.0.0.1:port'", f"{URL}expected a number from 1 to 65535 after the colon"),
    (f"{OLLAMA}'http://127.0.0.1:'", f"{URL}expected a number from 1 to 65535 after the colon"),
    (f"{OLLAMA}'http://127.0.0.1:0'", f"{URL}expected a number from 1 to 65535"),
    (f"{OLLAMA}'http://[::1'", f"{URL}expected an address such as http://host:port, an IPv6 address in brackets"),
    (f"{OLLAMA}'http://[1.2.3.4]:1'", f"{URL}expected an "),
    (f"{OLLAMA}'http://[::g]:1'", f"{URL}expected an "),
    (f"{OLLAMA}'http://'", f"{URL}expected an address such as http://host:port"),
    (f"{OLLAMA}localhost:11434", f"{URL}expected an address"),
    (f"{OLLAMA}'http://gpu box:1'", f"{URL}expected an address such as http://host:port, without blanks"),
    (f'{OLLAMA}"http://gpu\\n:1"', f"{URL}expected an address such as http://host:port, without blanks"),
    (f"{OLLAMA}'http://-gpu:1'", f"{URL}expected the name of a machine"),
    (f"{OLLAMA}'http://🎉.lan:1'", f"{URL}expected the name of a machine"),
    (f"{OLLAMA}'http://192.168.1.300:1'", f"{URL}expected an IP address of four numbers"),
    (f"{OLLAMA}'http://192.168.1:1'", f"{URL}expected an IP address of four numbers"),
    (f"{OLLAMA}'ftp://gpu:1'", f"{URL}expected an address that begins with http:// or https://"),
    (f"{OLLAMA}'http://gpu:1/?a=b'", f"{URL}expected an address without ? and #"),
    (f"{OLLAMA}'http://gpu:11434/v1'", f"{URL}expected the server's own address, without /v1: http://gpu:11434"),
    (f"{OLLAMA}'http://gpu:11434/api/chat'", f"{URL}expected the server's own address, without /api/chat: "),
    (f"{OPENAI}'https://x/v1/chat/completions'", f"{URL}{GROQ}"),
    (f"{OPENAI}'https://x/v1/models/'", f"{URL}expected the base of the API, without /models/: https://x/v1"),
    (f"{OPENAI}'https://me:s3cret@x:port'", "found 'https://…@x:port'"),
    ("home_assistant:\n  url: http://ha:8123/lovelace/0", "2: home_assistant.url: expected the address"),
    ("stt:\n  uri: tcp://gpu", "2: stt.uri: expected a port after the host, as in tcp://host:port"),
    ("stt:\n  uri: [tcp://gpu:1, tcp://gpu:x]", "2: stt.uri[1]: expected a number from 1 to 65535"),
    ("wake:\n  uri: http://gpu:1", "2: wake.uri: expected an address such as tcp://host:port"),
    ("tts:\n  uri: tcp://gpu:1/x", "2: tts.uri: expected nothing but host and port"),
    # Numbers.
    ("http:\n  port: yes", "2: http.port: expected neither true nor false, which "),
    # Where to listen, and what to announce.
    ("wyoming:\n  host: 256.1.1.1", "2: wyoming.host: expected an IP address of four numbers"),
    ("wyoming:\n  host: 'a b'", "2: wyoming.host: expected the name of a machine, or its IP address"),
    ("wyoming:\n  host: []", "2: wyoming.host: "),
    ("http:\n  host: tcp://here", "2: http.host: expected "),
    ("zeroconf:\n  address: not an address", "2: zeroconf.address: expected an IP address such as 192.168.1.10"),
    ("zeroconf:\n  address: 0.0.0.0", "2: zeroconf.address: expected the address of one machine"),
    (f"zeroconf:\n  name: {'é' * 32}", "2: zeroconf.name: expected a name of at most 63 bytes"),
    (f"{OLLAMA}'http://gpu:1/{'x' * 70000}'", f"{URL}expected an address of at most 2000 characters"),
    ("zeroconf:\n  address: 255.255.255.255", "2: zeroconf.address: expected the address of one machine"),
    ("zeroconf:\n  name: ' '", "2: zeroconf.name: expected a name of at most 63 bytes, without dots"),
    ("http:\n  host: 0.0.0.0", "2: http.host: 0.0.0.0 can be reached from other machines"),
    ("http:\n  port: 10600", "2: http.port: port 10600 is also wyoming.port"),
    ("http:\n  token: ' '", "2: http.token: the token from http.token is empty"),
    ("http:\n  requests_per_minute: 0", "2: http.requests_per_minute: "),
    ("http:\n  trusted_proxies: [localhost]", "2: http.trusted_proxies[0]: expected an address or a network"),
    ("http:\n  allowed_hosts: ['https://home.example']", "2: http.allowed_hosts[0]: expected nothing but the name"),
    ("http:\n  allowed_hosts: ['*']", "2: http.allowed_hosts[0]: expected the name of a machine"),
    ("http:\n  cors_origins: ['*']", "2: http.cors_origins[0]: expected an address such as http"),
    ("http:\n  cors_origins: ['https://home.example/page']", "http.cors_origins[0]: expected nothing but scheme, host"),
    ("zeroconf:\n  name: my.house", "2: zeroconf.name: expected a name of at most 63 bytes, without dots"),
    # Names.
    ("chat:\n  providers:\n    - {type: ollama, model: ' '}", "3: chat.providers[0].model: expected a name"),
    ('chat:\n  providers:\n    - {type: ollama, model: "a\\nb"}', "3: chat.providers[0].model: expected a name"),
    ("rooms:\n  - {name: ' ', uri: 'tcp://192.0.2.1:1'}", "2: rooms[0].name: expected a name, on one line"),
    ('chat:\n  system_prompt: "\\ud800"', "2: chat.system_prompt: expected text without a NUL character or half"),
    (f"{KITCHEN}  - {{name: Kitchen, uri: 'tcp://192.0.2.2:10700'}}", "3: rooms[1].name: 'Kitchen' is also"),
    (f"{KITCHEN}  - {{name: den, uri: 'tcp://192.0.2.1:10700/'}}", "3: rooms[1].uri: "),
    (f"microphone: USB\nhost_room: {{name: KITCHEN}}\n{KITCHEN}", "'kitchen' is also the name of host_room"),
    (
        "chat:\n  providers:\n    - {type: local}\n    - {type: local, threads: 2}",
        "4: chat.providers[1]: the same provider as chat.providers[0]",
    ),
    (
        "rooms:\n  - name: a\n    zz: b",
        "expected one of area, follow_up, language, lead_in_seconds, name, persona, sounds, uri, voice, wake_words",
    ),
    (
        "rooms:\n  - name: a\n    uri: tcp://192.0.2.1:1\n    wake_words: [okay_nabbu]",
        "4: rooms[0].wake_words[0]: unknown wake word 'okay_nabbu'; did you mean 'okay_nabu'?",
    ),
    # Languages.
    ("stt:\n  model: base\n  language: klingon", "3: stt.language: expected the code of a language that Whisper"),
    ("stt:\n  model: base\n  language: no", 'found False; quote what is to be text: "no"'),
    ("stt:\n  model: 3", 'found 3; quote what is to be text: "3"'),
    (
        "rooms:\n  - name: a\n    uri: tcp://192.0.2.1:1\n    language: fr",
        "4: rooms[0].language: model tiny.en does not know 'fr'",
    ),
    # Files.
    ('home_assistant:\n  token_file: "a\\0b"', "2: home_assistant.token_file: expected text without a NUL"),
    (f"models:\n  directory: /{'x' * 300}", "2: models.directory: expected a shorter path"),
    ("wake:\n  custom_directory: /dev/null", "2: wake.custom_directory: the folder cannot be read: Not a direc"),
    (
        "home_assistant:\n  url: https://ha:8123\n  trust: /nowhere/ca.pem",
        "3: home_assistant.trust: the certificate in /nowhere/ca.pem cannot be used: ",
    ),
    # Numbers that would make it useless.
    ("deadlines:\n  stt_seconds: 0", "2: deadlines.stt_seconds: "),
    ("deadlines:\n  tts_seconds: .inf", "2: deadlines.tts_seconds: "),
    ("vad:\n  threshold: 1", "2: vad.threshold: "),
    ("endpoint:\n  max_command_seconds: 0.5", "2: endpoint.max_command_seconds: expected more than endpoint.si"),
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
    [("en-US", "en"), ("en_GB", "en"), ("auto", None), ("nb", "no"), ('"no"', "no"), ("nn", "nn"), ("pt-BR", "pt")],
)
def test_a_language_becomes_whispers_code(written: str, language: str | None) -> None:
    config = parse(f"stt: {{model: base, language: {written}}}\nmicrophone: x\nhost_room: {{language: {written}}}")
    assert config.stt.language == config.host_room.language == language


@pytest.mark.parametrize(
    ("written", "languages"),
    [
        ("languages: [fr_FR, en-GB, en]", ("fr", "en")),
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
