"""Proxies that the environment names: honoured on the way out, never at home, and never the end of everything."""

import asyncio
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
HOSTED = OpenAISettings(type="openai", model="m", url=OUTSIDE)
UNUSABLE = "socks5h://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_servers_at_home_are_reached_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", UNUSABLE)
    async with HomeAssistantServer(token="t") as house:
        api = Api(HomeAssistantSettings(url=house.url), Secret("t", "here", "token"))
        assert await api.probe()
        await api.close()
    ollama = OllamaApi(OllamaSettings(type="ollama", model="m", url="http://127.0.0.1:9"), ChatSettings())
    with pytest.raises(ChatUnavailable, match="is it running"):
        await ollama.loaded(5)


async def asked(proxy: str, monkeypatch: pytest.MonkeyPatch) -> OpenAIChat:
    """Return a hosted provider that has been asked by way of `proxy`, and has failed."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("GROQ_API_KEY", "key")
    provider = OpenAIChat(HOSTED, ChatSettings(), Config().deadlines)
    with pytest.raises(ChatError):
        await anext(provider.stream([Message("user", "Hi")]))
    await provider.close()
    return provider


async def test_a_hosted_provider_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = await asked(UNUSABLE, monkeypatch)
    assert "ALL_PROXY" in provider.health.message
    assert not provider.health.up
    finding = await _reached(HOSTED, "")
    assert "ALL_PROXY" in finding.seen


def test_models_say_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALL_PROXY", UNUSABLE)
    spec = catalogue.find(Kind.STT, "base")
    assert isinstance(spec.source, HubSource)
    with pytest.raises(ModelError, match="ALL_PROXY"):
        huggingface.fetch(spec, spec.source, tmp_path, lambda *_: None)


async def test_a_proxy_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asked(f"http://127.0.0.1:{port}", monkeypatch)
    assert lines == [b"CONNECT api.example.com:443 HTTP/1.1\r\n"]
