"""Keys are found where they may be, and what is wrong with one is told without showing it; addresses are judged."""

from pathlib import Path

import pytest

from satellite.config.chat import OpenAISettings
from satellite.config.secrets import Secret, chat_key
from satellite.engines.chat.http_errors import failure
from satellite.errors import ConfigError
from satellite.net.http_client import is_at_home, shown_url


def settings(name: str = "groq", file: Path | None = None) -> OpenAISettings:
    """Return a provider of that name."""
    return OpenAISettings(type="openai", name=name, model="m", api_key_file=file)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is anywhere."""
    for name in ("GROQ_API_KEY", "MY_LAB_2_API_KEY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def test_the_file_comes_before_the_environment_and_that_before_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearer to the configuration, the stronger."""
    (tmp_path / "groq.key").write_text("from-systemd\n")
    (tmp_path / "file").write_text("  from-file \n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert chat_key(settings()).find() == Secret("from-systemd", "the credential groq.key", "key")
    monkeypatch.setenv("GROQ_API_KEY", "from-environment")
    assert chat_key(settings()).find() == Secret("from-environment", "$GROQ_API_KEY", "key")
    assert chat_key(settings(file=tmp_path / "file")).find() == Secret("from-file", str(tmp_path / "file"), "key")


def test_a_credential_may_come_with_its_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd puts the folder's name before its own; one that was loaded by itself comes first."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "satellite").write_text("")
    assert chat_key(settings()).find().value == ""
    (tmp_path / "satellite_groq.key").write_text("from-the-folder\n")
    assert chat_key(settings()).find() == Secret("from-the-folder", "the credential groq.key", "key")
    (tmp_path / "groq.key").write_text("by-itself\n")
    assert chat_key(settings()).find().value == "by-itself"


def test_a_provider_of_another_name_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groq's key goes to nobody else."""
    monkeypatch.setenv("GROQ_API_KEY", "groqs")
    monkeypatch.setenv("MY_LAB_2_API_KEY", "mine")
    assert chat_key(settings("my-lab.2")).find().value == "mine"
    assert chat_key(settings("other")).find().value == ""


@pytest.mark.parametrize("content", ["", " \n", "two words", "tab\there", "clé-sécrète-9", "a\nb"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    """A mistake in the file is an error at start-up that names the file only."""
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        chat_key(settings(file=file)).find()
    assert str(file) in str(caught.value)
    assert not content.strip() or content.strip() not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Absent, or no text: the error neither quotes nor keeps the content."""
    with pytest.raises(ConfigError, match="absent cannot be read: No such file"):
        chat_key(settings(file=tmp_path / "absent")).find()
    (tmp_path / "binary").write_bytes(b"secret\xff")
    with pytest.raises(ConfigError, match="it is not text") as caught:
        chat_key(settings(file=tmp_path / "binary")).find()
    assert caught.value.__context__ is None


def test_a_key_hides_itself() -> None:
    """It is in no repr, and comes out of any text."""
    key = Secret("gsk_x", "$GROQ_API_KEY", "key")
    assert "gsk_x" not in repr(key)
    assert key.scrub("Bearer gsk_x!") == "Bearer [key]!"
    assert Secret("", "nowhere", "key").scrub("abc") == "abc"


@pytest.mark.parametrize(
    ("url", "at_home"),
    [
        ("http://127.0.0.1:11434", True),
        ("http://[::1]:11434", True),
        ("http://192.168.1.20", True),
        ("http://[fe80::1%25eth0]:1", True),
        ("http://localhost:11434", True),
        ("http://gpu:11434", True),
        ("https://ollama.lan/", True),
        ("https://ollama.home.arpa", True),
        ("https://api.groq.com/openai/v1", False),
        ("http://8.8.8.8", False),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1@evil.example.com/", False),
    ],
)
def test_an_address_is_at_home_or_not(url: str, at_home: bool) -> None:
    """Private addresses and names that exist only at home are at home; everything else is not."""
    assert is_at_home(url) is at_home


def test_a_url_is_shown_without_its_secrets() -> None:
    """User, password and query stay out of messages."""
    assert shown_url("https://me:pw@host:8443/v1/?token=x") == "https://host:8443/v1"


def test_a_long_explanation_is_cut() -> None:
    """Some servers repeat the whole conversation when they refuse it."""
    assert len(str(failure("the server", 400, "x" * 10_000))) < 300
