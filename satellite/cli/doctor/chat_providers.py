"""Checks of the chat: keys and compatible providers, the daemon's state of each provider, and an answer."""

import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from satellite.cli.doctor import ollama_server, unit
from satellite.cli.doctor.findings import Finding, State, Target, bad, good, note
from satellite.config.chat import LocalSettings, OllamaSettings, OpenAISettings, ProviderSettings
from satellite.config.secrets import Secret, chat_key
from satellite.errors import ChatError, ConfigError, SatelliteError, shown
from satellite.net.http_client import client_settings, is_at_home, shown_url
from satellite.net.provider_states import COMING
from satellite.wire import client

_ASK_SECONDS = 5.0
_QUESTION = "Say yes."
_HOSTED = Path("/etc/systemd/system/satellite.service.d/hosted.conf")


def remedy_of(state: str, provider: ProviderSettings) -> str:
    """Return the command that repairs a provider in this state, or shows more about it."""
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
            return ollama_server.start_command(provider)
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
    """Return the commands that store a key, let the service reach the internet if it may not yet, and restart it."""
    put = unit.put_secret(provider.api_key_file, f"{provider.name}.key")
    shut = unit.installed() and not is_at_home(provider.url) and not _HOSTED.exists()
    opening = f"{unit.installer('--hosted')}; " if shut else ""
    return f"{put}; {opening}{unit.restart()}"


async def _compatible(target: Target) -> Sequence[Finding]:
    states = {state["provider"]: str(state["state"]) for state in target.providers}
    return [
        await _reached(provider, states.get(provider.name, ""))
        for provider in target.config.chat.providers
        if isinstance(provider, OpenAISettings)
    ]


async def _reached(provider: OpenAISettings, known_state: str) -> Finding:
    """Request a provider's list of models, which sends nothing that anybody said."""
    what = f"{provider.name} at {shown_url(provider.url)}"
    try:
        key = unit.secret(chat_key(provider).find)
    except ConfigError as error:
        return bad(what, f"{error}; {unit.TYPE_IT}", _put_key(provider))
    outside = not is_at_home(provider.url)
    if outside and not key.value:
        if key.elsewhere:
            return note(what, "only the service can read its key", "sudo satellite doctor")
        seen = f"is not used, because it has no key: {key.source}; {unit.TYPE_IT}"
        return note(what, seen, _put_key(provider))
    try:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS, **client_settings(provider.url)) as http:
            headers = {"Authorization": f"Bearer {key.value or 'none'}"}
            response = await http.get(f"{provider.url.rstrip('/')}/models", headers=headers)
    except ChatError as error:
        return bad(what, str(error), "env | grep -i _proxy")
    except httpx.HTTPError as error:
        reason = key.scrub(str(error)) or type(error).__name__
        return bad(what, f"cannot be reached: {reason}", f"curl -sSI {shown_url(provider.url)}")
    # The server's reason may quote the key, or part of it.
    if response.status_code in (401, 403):
        seen = f"refuses the key from {key.source}: {_reason(response, key)}; {unit.TYPE_IT}"
        return bad(what, seen, _put_key(provider))
    found = _listed(what, provider, response)
    if found.state is State.GOOD and known_state in ("no-key", "refused"):
        seen = f"{found.seen}, but the daemon has not read the key that is there now"
        return bad(what, seen, unit.restart())
    return found


def _reason(response: httpx.Response, key: Secret) -> str:
    """Return a short form of the server's reason for its refusal, without the key."""
    try:
        reason = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = response.text
    return f"{response.status_code} {shown(key.scrub(str(reason)))}".strip()


def _listed(what: str, provider: OpenAISettings, response: httpx.Response) -> Finding:
    try:
        models = [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        if response.status_code < 500:  # a server without such a list may still answer questions
            return good(what, "answers")
        return bad(what, f"answers {response.status_code}", f"curl -sSI {shown_url(provider.url)}")
    if models and provider.model not in models:
        seen = f"has no model {provider.model}; it has {', '.join(models[:5])}"
        return bad(what, seen, f"name one of them as chat.providers.model, then: {unit.restart()}")
    return good(what, f"answers, with {provider.model}")


async def _providers(target: Target) -> Sequence[Finding]:
    """Report the state of each provider in the running daemon."""
    if target.state is None:
        return []
    configured = {getattr(provider, "name", "local"): provider for provider in target.config.chat.providers}
    another_answers = any(state["up"] for state in target.providers)
    findings = []
    for state in target.providers:
        name, what = state["provider"], f"chat {state['provider']}"
        seen = f"{state['state']}: {state['message']}" if state["message"] else state["state"]
        if state["up"]:
            if state.get("leaves_house"):
                seen += f"; what people say leaves the house ({state.get('sent_outside', 0)} times so far)"
            findings.append(good(what, seen))
        elif state["state"] in COMING:
            findings.append(note(what, seen, "satellite status"))
        else:
            # A provider that is not in the file any more: the daemon still runs with older settings.
            remedy = remedy_of(state["state"], configured[name]) if name in configured else unit.restart()
            unused = state["state"] == "no-key" and another_answers
            findings.append(note(what, seen, remedy) if unused else bad(what, seen, remedy))
    if switch := target.state["chat"].get("last_switch"):
        seen = f"{switch['at']}, from {switch['from']} to {switch['to']}: {switch['reason']}"
        findings.append(note("chat: last switch", seen))
    return findings


async def _answer(target: Target) -> Sequence[Finding]:
    """Ask a question, unless the provider that would answer is outside the house."""
    if target.state is None or not any(state["up"] for state in target.providers):
        return []  # other checks have reported why
    answering = target.state["chat"]["answering"]
    if any(state["provider"] == answering and state.get("leaves_house") for state in target.providers):
        return [note("chat", f"{answering} is not asked: the question would leave the house")]
    began = time.monotonic()
    try:
        heard = await client.ask_text(target.uri, _QUESTION, lambda _: None)
    except SatelliteError as error:
        return [bad("chat", f"[{error.code}] {error}", unit.log("-p warning -n 20"))]
    return [good("chat", f"{heard.provider} has answered in {1000 * (time.monotonic() - began):.0f} ms")]


CHECKS = {"hosted": _compatible, "providers": _providers, "chat": _answer}
