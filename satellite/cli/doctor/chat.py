"""Checks of the chat: keys and hosted providers, what the daemon knows of each, and an answer."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from satellite.cli.doctor import ollama, unit
from satellite.cli.doctor.finding import Finding, State
from satellite.config.chat import LocalSettings, OllamaSettings, OpenAISettings, ProviderSettings
from satellite.config.secrets import Secret, chat_key
from satellite.config.settings import Config
from satellite.errors import ChatError, ConfigError, SatelliteError, shown
from satellite.net.http_client import client_settings, is_at_home, shown_url
from satellite.net.provider_states import COMING
from satellite.wire import client

_ASK_SECONDS = 5.0
_QUESTION = "Say yes."
_HOSTED = Path("/etc/systemd/system/satellite.service.d/hosted.conf")


def remedy_of(state: str, provider: ProviderSettings) -> str:
    """Return what mends a provider in a state that needs it, or shows more of it."""
    log = unit.log("-p warning -n 20")
    if state == "misconfigured":
        return unit.command("check")
    if isinstance(provider, LocalSettings):
        return unit.command("models pull configured") if state == "failed" else log
    if isinstance(provider, OpenAISettings):
        if state in ("no-key", "refused"):
            return _put_key(provider)
        return f"curl -sSI {shown_url(provider.url)}" if state in ("unreachable", "silent") else log
    match state:
        case "unreachable":
            return ollama.started(provider)
        case "model-missing":
            return f"ollama pull {provider.model}"
        case "silent" | "on-cpu":
            return "sudo systemctl restart ollama"
        case "partly-on-cpu":
            return "nvidia-smi"
        case "failing" | "runner-died":
            return "sudo journalctl -u ollama -n 50"
        case "no-key" | "refused":
            return _put_key(provider)
    return log


def _put_key(provider: OllamaSettings | OpenAISettings) -> str:
    """Return what stores a key, lets the service reach the internet where that takes opening, and starts it again."""
    put = unit.put_secret(provider.api_key_file, f"{provider.name}.key")
    shut = unit.installed() and not is_at_home(provider.url) and not _HOSTED.exists()
    opening = f"{unit.installer('--hosted')}; " if shut else ""
    return f"{put}; {opening}{unit.restart()}"


async def _hosted(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    return [
        await _reached(provider, _told(state, provider.name))
        for provider in config.chat.providers
        if isinstance(provider, OpenAISettings)
    ]


async def _reached(provider: OpenAISettings, told: dict[str, Any]) -> Finding:
    """Ask a provider for its list of models, which carries no words of anybody's."""
    what = f"{provider.name} at {shown_url(provider.url)}"
    try:
        key = unit.secret(chat_key(provider).find)
    except ConfigError as error:
        return Finding(what, State.BAD, f"{error}; {unit.TYPE_IT}", _put_key(provider))
    outside = not is_at_home(provider.url)
    if outside and not key.value:
        if key.elsewhere:
            return Finding(what, State.NOTE, "its key is for the service alone", "sudo satellite doctor")
        seen = f"is not used, for want of a key: {key.source}; {unit.TYPE_IT}"
        return Finding(what, State.NOTE, seen, _put_key(provider))
    try:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS, **client_settings(provider.url)) as http:
            headers = {"Authorization": f"Bearer {key.value or 'none'}"}
            response = await http.get(f"{provider.url.rstrip('/')}/models", headers=headers)
    except ChatError as error:
        return Finding(what, State.BAD, str(error), "env | grep -i _proxy")
    except httpx.HTTPError as error:
        reason = key.scrub(str(error)) or type(error).__name__
        return Finding(what, State.BAD, f"cannot be reached: {reason}", f"curl -sSI {shown_url(provider.url)}")
    if response.status_code in (401, 403):
        seen = f"refuses the key from {key.source}: {_reason(response, key)}; {unit.TYPE_IT}"
        return Finding(what, State.BAD, seen, _put_key(provider))
    found = _listed(what, provider, response)
    if found.state is State.GOOD and told.get("state") in ("no-key", "refused"):
        seen = f"{found.seen}, but the daemon has not read the key that is there now"
        return Finding(what, State.BAD, seen, unit.restart())
    return found


def _reason(response: httpx.Response, key: Secret) -> str:
    """Return what a server says of its refusal, in short, without the key."""
    try:
        told = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        told = response.text
    return f"{response.status_code} {shown(key.scrub(str(told)))}".strip()


def _listed(what: str, provider: OpenAISettings, response: httpx.Response) -> Finding:
    try:
        models = [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        if response.status_code < 500:  # what has no such list may answer questions all the same
            return Finding(what, State.GOOD, "answers")
        return Finding(what, State.BAD, f"answers {response.status_code}", f"curl -sSI {shown_url(provider.url)}")
    if models and provider.model not in models:
        seen = f"has no model {provider.model}; it has {', '.join(models[:5])}"
        return Finding(what, State.BAD, seen, f"name one of them as chat.providers.model, then: {unit.restart()}")
    return Finding(what, State.GOOD, f"answers, with {provider.model}")


async def _providers(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    """Tell what the running daemon knows of each."""
    findings = []
    configured = {getattr(provider, "name", "local"): provider for provider in config.chat.providers}
    chat = (state or {}).get("chat", {})
    spare = sum(told["up"] for told in chat.get("providers", [])) > 0
    for told in chat.get("providers", []):
        seen = f"{told['state']}: {told['words']}" if told["words"] else told["state"]
        if told["up"] and told.get("leaves_house"):
            seen += f"; what people say leaves the house ({told.get('sent_outside', 0)} times so far)"
        if told["up"]:
            findings.append(Finding(f"chat {told['provider']}", State.GOOD, seen))
            continue
        if told["state"] in COMING:
            findings.append(Finding(f"chat {told['provider']}", State.NOTE, seen, "satellite status"))
            continue
        provider = configured.get(told["provider"])
        remedy = remedy_of(told["state"], provider) if provider else unit.restart()  # it runs with other settings
        unused = told["state"] == "no-key" and spare
        findings.append(Finding(f"chat {told['provider']}", State.NOTE if unused else State.BAD, seen, remedy))
    if switch := chat.get("last_switch"):
        seen = f"{switch['at']}, from {switch['from']} to {switch['to']}: {switch['reason']}"
        findings.append(Finding("chat: last switch", State.NOTE, seen))
    return findings


async def _answer(_config: Config, state: dict[str, Any] | None, uri: str) -> Sequence[Finding]:
    """Let whoever would answer do so, unless that is outside the house."""
    if state is None or not any(told["up"] for told in state["chat"]["providers"]):
        return []  # it is said already why not
    told = _told(state, state["chat"]["answering"])
    if told.get("leaves_house"):
        return [Finding("chat", State.NOTE, f"{told['provider']} is not asked: the words would leave the house")]
    began = time.monotonic()
    try:
        heard = await client.ask_text(uri, _QUESTION, lambda _: None)
    except SatelliteError as error:
        return [Finding("chat", State.BAD, f"[{error.code}] {error}", unit.log("-p warning -n 20"))]
    ms = 1000 * (time.monotonic() - began)
    return [Finding("chat", State.GOOD, f"{heard.provider} has answered in {ms:.0f} ms")]


def _told(state: dict[str, Any] | None, name: str) -> dict[str, Any]:
    providers = (state or {}).get("chat", {}).get("providers", [])
    return next((told for told in providers if told["provider"] == name), {})


CHECKS = {"hosted": _hosted, "providers": _providers, "chat": _answer}
