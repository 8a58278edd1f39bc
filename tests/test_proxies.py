"""Proxies that the environment names: honoured on the way out, never at home, and never the end of everything."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satellite.cli.doctor.chat_providers import _reached
from satellite.config.chat import ChatSettings, OllamaSettings, OpenAISettings
from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.secrets import Secret
from satellite.config.settings import Config
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatUnavailable, ModelError, ProxyUnusable
from satellite.models import catalogue, huggingface
from satellite.models.spec import HubSource, Kind
from satellite.net.http_client import client_settings
from satellite.net.proxies import proxy_for
from satellite.skills.home_assistant.api import Api
from tests.doubles.home_assistant import HomeAssistantServer

OUTSIDE = "https://api.example.com/v1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is named but by the test."""
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"ALL_PROXY": "http://me:s3cret@proxy:3128"}, "http://me:s3cret@proxy:3128"),
        ({"ALL_PROXY": "http://one:1", "HTTPS_PROXY": "http://two:2"}, "http://two:2"),
        ({"ALL_PROXY": "http://one:1", "NO_PROXY": "example.com"}, None),
    ],
)
def test_the_environments_proxy_is_found(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(OUTSIDE) == proxy


@pytest.mark.parametrize("proxy", ["socks5h://me:s3cret@proxy:1", "ftp://proxy", "http://proxy:port", "http://[::1"])
def test_one_that_cannot_be_used_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ProxyUnusable, match="of ALL_PROXY cannot be used: ") as caught:
        proxy_for(OUTSIDE)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ChatUnavailable, match="ALL_PROXY"):
        client_settings(OUTSIDE)
    assert client_settings("http://gpu.lan:11434")["proxy"] is None


async def test_whoever_is_at_home_is_reached_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1")
    async with HomeAssistantServer(token="t") as house:
        api = Api(HomeAssistantSettings(url=house.url), Secret("t", "here", "token"))
        assert await api.probe()
        await api.close()
    ollama = OllamaApi(OllamaSettings(type="ollama", model="m", url="http://127.0.0.1:9"), ChatSettings())
    with pytest.raises(ChatUnavailable, match="is it running"):
        await ollama.loaded(5)


async def test_a_hosted_provider_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1")
    monkeypatch.setenv("GROQ_API_KEY", "key")
    settings = OpenAISettings(type="openai", model="m", url=OUTSIDE)
    provider = OpenAIChat(settings, ChatSettings(), Config().deadlines)
    with pytest.raises(ChatError, match="ALL_PROXY"):
        async for _ in provider.stream([Message("user", "Hi")]):
            raise AssertionError
    assert "ALL_PROXY" in provider.health.message
    assert not provider.health.up
    await provider.close()
    finding = await _reached(settings, "")
    assert "ALL_PROXY" in finding.seen


def test_models_say_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1")
    spec = catalogue.find(Kind.STT, "base")
    assert isinstance(spec.source, HubSource)
    with pytest.raises(ModelError, match="ALL_PROXY"):
        huggingface.fetch(spec, spec.source, tmp_path, lambda *_: None)


@contextmanager
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a proxy that notes what it is asked for, and refuses it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096).partition(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(60)


async def test_a_proxy_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "key")
    settings = OpenAISettings(type="openai", model="m", url=OUTSIDE)
    with proxy() as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)

        async def scenario() -> None:
            provider = OpenAIChat(settings, ChatSettings(), Config().deadlines)
            with pytest.raises(ChatError):
                async for _ in provider.stream([Message("user", "Hi")]):
                    raise AssertionError
            await provider.close()

        await scenario()
        assert asked == [b"CONNECT api.example.com:443 HTTP/1.1"]
