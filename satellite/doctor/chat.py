"""Checks of the chat: keys and hosted providers, what the daemon knows of each, and an answer."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from satellite.config import Config, OpenAICompatible
from satellite.doctor.finding import Finding, State
from satellite.engines.chat.address import client_settings, is_at_home, shown
from satellite.engines.chat.key import find_key
from satellite.errors import ChatError, ConfigError, SatelliteError
from satellite.wire import client

_ASK_SECONDS = 5.0
_QUESTION = "Say yes."
_CREDENTIALS = Path("/etc/satellite/credentials")
_RESTART = "sudo systemctl restart satellite"

_REMEDIES = {
    "model-missing": "ollama pull {model}",
    "no-key": (
        f"sudo install -D -m 600 KEY_FILE {_CREDENTIALS}/{{provider}}.key; sudo ./install.sh --hosted; {_RESTART}"
    ),
    "unreachable": "sudo systemctl start ollama; journalctl -u ollama -n 20",
    "silent": "sudo systemctl restart ollama",
    "failing": "journalctl -u ollama -n 50",
    "on-cpu": "nvidia-smi; sudo systemctl restart ollama",
    "partly-on-cpu": "nvidia-smi; a smaller model or num_ctx; sudo systemctl restart ollama",
    "runner-died": "journalctl -u ollama -n 50",
    "other-context": "the same num_ctx here and in the other client",
    "refused": f"sudo install -m 600 KEY_FILE {_CREDENTIALS}/{{provider}}.key && sudo systemctl restart satellite",
    "failed": "satellite models pull configured",
    "misconfigured": "satellite check",
}
"""What mends a provider, by its state."""


async def _hosted(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    return [
        await _reached(provider, _told(state, provider.name))
        for provider in config.chat.providers
        if isinstance(provider, OpenAICompatible)
    ]


async def _reached(provider: OpenAICompatible, told: dict[str, Any]) -> Finding:
    """Ask a provider for its list of models, which carries no words of anybody's."""
    what = f"{provider.name} at {shown(provider.url)}"
    file = _CREDENTIALS / f"{provider.name}.key"
    try:
        key = find_key(provider)
    except ConfigError as error:
        return Finding(
            what, State.BAD, str(error), f"sudo install -D -m 600 KEY_FILE {provider.api_key_file or file}; {_RESTART}"
        )
    outside = not is_at_home(provider.url)
    if outside and not key.value:
        if told and told["state"] != "no-key":
            return Finding(what, State.GOOD, "the daemon has its key; it can be tried only with sudo satellite doctor")
        seen = f"is not used, for want of a key: {key.source}"
        return Finding(
            what, State.NOTE, seen, f"sudo install -D -m 600 KEY_FILE {file}; sudo ./install.sh --hosted; {_RESTART}"
        )
    try:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS, **client_settings(provider.url)) as http:
            headers = {"Authorization": f"Bearer {key.value or 'none'}"}
            response = await http.get(f"{provider.url.rstrip('/')}/models", headers=headers)
    except ChatError as error:
        return Finding(what, State.BAD, str(error), "env | grep -i proxy")
    except httpx.HTTPError as error:
        reason = key.scrub(str(error)) or type(error).__name__
        remedy = f"curl -I {shown(provider.url)}" + (
            "; sudo ./install.sh --hosted opens the internet" if outside else ""
        )
        return Finding(what, State.BAD, f"cannot be reached: {reason}", remedy)
    if response.status_code in (401, 403):
        seen = f"refuses the key from {key.source}"
        return Finding(
            what, State.BAD, seen, f"sudo install -D -m 600 KEY_FILE {provider.api_key_file or file}; {_RESTART}"
        )
    return _listed(what, provider, response)


def _listed(what: str, provider: OpenAICompatible, response: httpx.Response) -> Finding:
    try:
        models = [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        if response.status_code < 500:  # what has no such list may answer questions all the same
            return Finding(what, State.GOOD, "answers")
        return Finding(what, State.BAD, f"answers {response.status_code}", "try again later; satellite status")
    if models and provider.model not in models:
        seen = f"has no model {provider.model}; it has {', '.join(models[:5])}"
        return Finding(what, State.BAD, seen, "name one of them as chat.providers.model")
    return Finding(what, State.GOOD, f"answers, with {provider.model}")


async def _providers(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    """Tell what the running daemon knows of each."""
    findings = []
    chat = (state or {}).get("chat", {})
    spare = sum(told["up"] for told in chat.get("providers", [])) > 0
    for told in chat.get("providers", []):
        seen = f"{told['state']}: {told['words']}" if told["words"] else told["state"]
        if told["up"] and told.get("leaves_house"):
            seen += f"; what people say leaves the house ({told.get('sent_outside', 0)} times so far)"
        if told["up"]:
            findings.append(Finding(f"chat {told['provider']}", State.GOOD, seen))
            continue
        remedy = _REMEDIES.get(told["state"], "").format(**told)
        unused = told["state"] == "no-key" and spare
        remedy = remedy or "satellite status; journalctl -u satellite -p warning"
        findings.append(Finding(f"chat {told['provider']}", State.NOTE if unused else State.BAD, seen, remedy))
    if switch := chat.get("last_switch"):
        seen = f"{switch['at']}, from {switch['from']} to {switch['to']}: {switch['reason']}"
        findings.append(Finding("chat: last switch", State.NOTE, seen))
    return findings


async def _answer(_config: Config, state: dict[str, Any] | None, uri: str) -> Sequence[Finding]:
    """Let whoever would answer do so, unless that is outside the house."""
    if state is None:
        return []
    told = _told(state, state["chat"]["answering"])
    if told.get("leaves_house"):
        return [Finding("chat", State.NOTE, f"{told['provider']} is not asked: the words would leave the house")]
    began = time.monotonic()
    try:
        heard = await client.ask_text(uri, _QUESTION, lambda _: None)
    except SatelliteError as error:
        return [
            Finding(
                "chat", State.BAD, f"[{error.code}] {error}", "satellite status; journalctl -u satellite -p warning"
            )
        ]
    ms = 1000 * (time.monotonic() - began)
    return [Finding("chat", State.GOOD, f"{heard.provider} has answered in {ms:.0f} ms")]


def _told(state: dict[str, Any] | None, name: str) -> dict[str, Any]:
    providers = (state or {}).get("chat", {}).get("providers", [])
    return next((told for told in providers if told["provider"] == name), {})


CHECKS = {"hosted": _hosted, "providers": _providers, "chat": _answer}
