"""Keys and tokens: found in one order, refused without being shown, and in no message."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from satellite.config.chat import OpenAISettings
from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.http import HttpSettings
from satellite.config.loader import parse
from satellite.config.secrets import Secret, SecretSource, chat_key, home_assistant_token, http_token
from satellite.config.settings import Config
from satellite.daemon.config_check import check
from satellite.errors import ConfigError

Source = Callable[..., SecretSource]

VARIABLES = ("GROQ_API_KEY", "MY_LAB_2_API_KEY", "HOME_ASSISTANT_TOKEN", "SATELLITE_HTTP_TOKEN")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def key(name: str = "groq", *, file: Path | None = None) -> SecretSource:
    return chat_key(OpenAISettings(type="openai", name=name, model="m", api_key_file=file))


def of_home_assistant(*, file: Path | None = None, given: str | None = None) -> SecretSource:
    return home_assistant_token(HomeAssistantSettings(token_file=file, token=given and SecretStr(given)))


def of_http(*, file: Path | None = None, given: str | None = None) -> SecretSource:
    return http_token(HttpSettings(token_file=file, token=given and SecretStr(given)))


each_source = pytest.mark.parametrize("source", [key, of_home_assistant, of_http])


@pytest.mark.parametrize(
    ("source", "variable", "credential", "setting"),
    [
        (key, "GROQ_API_KEY", "groq.key", None),
        (of_home_assistant, "HOME_ASSISTANT_TOKEN", "home_assistant.token", "home_assistant.token"),
        (of_http, "SATELLITE_HTTP_TOKEN", "http.token", "http.token"),
    ],
)
def test_a_secret_is_found(
    source: Source, variable: str, credential: str, setting: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = source().kind
    assert source().find().value == ""
    # systemd may load a whole folder, whose name it puts before that of the file.
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "satellite").write_text("")
    assert source().find().value == ""
    (tmp_path / f"satellite_{credential}").write_text("folder\n")
    assert source().find() == Secret("folder", f"the credential {credential}", kind)
    (tmp_path / credential).write_text("credential\n")
    assert source().find() == Secret("credential", f"the credential {credential}", kind)
    monkeypatch.setenv(variable, " environment ")
    assert source().find() == Secret("environment", f"${variable}", kind)
    given = {"given": "configuration"} if setting else {}
    if setting:
        assert source(**given).find() == Secret("configuration", setting, kind)
    (file := tmp_path / "file").write_text("  s3cret \n")
    found = source(file=file, **given).find()
    assert found == Secret("s3cret", str(file), kind)
    assert "s3cret" not in repr(found)


def test_a_provider_of_another_name_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "groqs")
    monkeypatch.setenv("MY_LAB_2_API_KEY", "mine")
    assert key("my-lab.2").find().value == "mine"
    assert key("other").find().value == ""


@each_source
@pytest.mark.parametrize(
    "content", [b"", b"  \n", b"abc\ndef", b"abc def", b"abc\tdef", b"abc\xff\xfedef", "abcdéf".encode()]
)
def test_content_that_is_no_secret_is_refused(source: Source, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=str(file)) as caught:
        source(file=file).find()
    assert caught.value.__context__ is None
    assert not any(part in str(caught.value) for part in ("abc", "def", "d\u00e9f"))
    assert b"\xff" not in content or "it is not text" in str(caught.value)


@each_source
def test_a_file_that_cannot_be_read_is_named(source: Source, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent cannot be read: No such file"):
        source(file=tmp_path / "absent").find()


def test_a_secret_is_removed_from_texts() -> None:
    secret = Secret("gsk_x", "$GROQ_API_KEY", "key")
    assert secret.scrub("Bearer gsk_x!") == "Bearer [key]!"
    assert Secret("", "nowhere", "key").scrub("abc") == "abc"


@pytest.mark.parametrize("section", ["home_assistant", "http"])
def test_the_configuration_does_not_show_it(section: str) -> None:
    config = parse(f"{section}: {{token: s3cret}}")
    assert getattr(config, section).token.get_secret_value() == "s3cret"
    assert "s3cret" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
    for written in ("[s3cret]", "{s3cret: 1}"):
        assert isinstance(getattr(parse(f"{section}:\n  token: {written}"), section).token, SecretStr)
    assert getattr(parse(f"{section}: {{token: 12345}}"), section).token.get_secret_value() == "12345"
    for text in ("token: s3cret\n  tokn: s3cret\n  url: 3", "token: [s3cret, s3cret]\n  port: x"):
        with pytest.raises(ConfigError) as caught:
            parse(f"{section}:\n  {text}")
        assert "s3cret" not in str(caught.value)
    assert Config() == parse("")


def test_with_a_token_http_may_be_reached_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATELLITE_HTTP_TOKEN", "of-the-environment")
    assert parse("http: {host: 0.0.0.0}", check=check).http.host == "0.0.0.0"
