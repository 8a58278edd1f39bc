"""Checks of Ollama: version, model, context, where the model is, how long it stays, and who else has a say in that."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from satellite.cli.doctor import unit
from satellite.cli.doctor.finding import Finding, State
from satellite.config.chat import OllamaSettings
from satellite.config.secrets import chat_key
from satellite.config.settings import Config
from satellite.engines.chat.keepalive.loaded_models import Loaded, find, full_name
from satellite.errors import ChatError, ConfigError
from satellite.net.http_client import client_settings, is_on_this_host, shown_url
from satellite.system.nvidia import gpus

_ASK_SECONDS = 3.0
_THINK_VERSION = (0, 9)
"""The first release that can be told not to think aloud."""

_UNITS = (Path("/etc/systemd/system/ollama.service"), Path("/usr/lib/systemd/system/ollama.service"))

Answer = dict[str, Any]


def started(provider: OllamaSettings) -> str:
    """Return what starts the Ollama of a provider, or installs it."""
    if not is_on_this_host(provider.url):
        return f"curl -sS {shown_url(provider.url)}/api/version"
    if any(unit.exists() for unit in _UNITS):
        return "sudo systemctl start ollama"
    if shutil.which("ollama"):
        return "ollama serve"
    return unit.installer(f"--with-ollama --model {provider.model}")


async def _ollamas(config: Config, state: Answer | None, _uri: str) -> Sequence[Finding]:
    findings: list[Finding] = []
    for provider in config.chat.providers:
        if isinstance(provider, OllamaSettings):
            findings += await _examined(provider, config, state)
    return findings


async def _examined(provider: OllamaSettings, config: Config, state: Answer | None) -> list[Finding]:
    what = f"ollama at {shown_url(provider.url)}"
    try:
        key = unit.secret(chat_key(provider).find)
        settings = client_settings(provider.url)
        settings["headers"] = {"Authorization": f"Bearer {key.value}"} if key.value else {}
        async with httpx.AsyncClient(base_url=provider.url, timeout=_ASK_SECONDS, **settings) as http:
            version = str((await _asked(http, "/api/version"))["version"])
            models = [model["name"] for model in (await _asked(http, "/api/tags"))["models"]]
            if full_name(provider.model) not in map(full_name, models):
                seen = f"{version}, without {provider.model}"
                return [Finding(what, State.BAD, seen, f"ollama pull {provider.model}")]
            shown_model = await _asked(http, "/api/show", {"model": provider.model})
            loaded = [_loaded(entry) for entry in (await _asked(http, "/api/ps"))["models"]]
    except ConfigError as error:
        put = unit.put_secret(provider.api_key_file, f"{provider.name}.key")
        return [Finding(what, State.BAD, f"{error}; {unit.TYPE_IT}", f"{put}; {unit.restart()}")]
    except ChatError as error:
        return [Finding(what, State.BAD, str(error), "env | grep -i _proxy")]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"does not answer: {error or type(error).__name__}"
        return [Finding(what, State.BAD, reason, started(provider))]
    findings = [_version(what, version, provider)]
    findings += _context(provider, shown_model)
    entry = find(loaded, provider.model, None)
    findings.append(_residency(provider, config, entry, _trained(shown_model), running=state is not None))
    if entry is not None:
        findings += await _share(provider, entry)
    return findings + _others(state, provider)


async def _asked(http: httpx.AsyncClient, path: str, body: Answer | None = None) -> Answer:
    response = await (http.get(path) if body is None else http.post(path, json=body))
    answer = response.raise_for_status().json()
    if not isinstance(answer, dict):
        raise ValueError("that is no Ollama")
    return answer


def _version(what: str, version: str, provider: OllamaSettings) -> Finding:
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _THINK_VERSION:
        seen = f"{version}, with {provider.model}; a model that thinks does so aloud, before 0.9"
        return Finding(what, State.NOTE, seen, "curl -fsSL https://ollama.com/install.sh | sh")
    return Finding(what, State.GOOD, f"{version}, with {provider.model}")


def _context(provider: OllamaSettings, told: Answer) -> list[Finding]:
    """Compare the context that is asked for with what the model was trained with."""
    what = f"context of {provider.model}"
    trained = _trained(told)
    if trained is None:
        return []
    if trained < provider.num_ctx:
        seen = f"{provider.num_ctx} tokens are asked for, the model can read {trained}"
        return [Finding(what, State.NOTE, seen, f"num_ctx: {trained}")]
    return [Finding(what, State.GOOD, f"{provider.num_ctx} of {trained} tokens that the model can read")]


def _trained(told: Answer) -> int | None:
    """Return the longest context that the model can read, None where that is not told."""
    lengths = (value for name, value in told.get("model_info", {}).items() if name.endswith(".context_length"))
    return next((length for length in lengths if isinstance(length, int)), None)


def _residency(
    provider: OllamaSettings, config: Config, entry: Loaded | None, trained: int | None, *, running: bool
) -> Finding:
    what = f"{provider.model} in memory"
    always = running and config.keepalive.enabled and config.keepalive.when == "always"
    if entry is None:
        seen = "is not loaded: the next answer waits for it"
        if always:
            return Finding(what, State.BAD, seen, "satellite status")
        return Finding(what, State.NOTE, seen, "" if running else unit.restart())
    if entry.context_tokens is not None and entry.context_tokens < min(provider.num_ctx, trained or provider.num_ctx):
        seen = f"another client has loaded it with a context of {entry.context_tokens} tokens: each reloads it in turn"
        return Finding(
            what, State.BAD, seen, f"give the other client num_ctx {provider.num_ctx}, or set num_ctx here to its"
        )
    now = datetime.now(UTC)
    if entry.stays(now) or entry.expires_at is None:
        return Finding(what, State.GOOD, "is loaded, to stay")
    minutes = max(0.0, (entry.expires_at - now).total_seconds()) / 60
    seen = f"is loaded, for another {minutes:.0f} min: by the keep-alive of another client"
    remedy = "keep_alive: -1 in the other client, or Environment=OLLAMA_KEEP_ALIVE=-1 (systemctl edit ollama)"
    return Finding(what, State.NOTE, seen, remedy)


async def _share(provider: OllamaSettings, entry: Loaded) -> list[Finding]:
    what = f"{provider.model} on the GPU"
    share = f"{entry.gpu_share:.0%} of it"
    if entry.gpu_share >= 1:
        return [Finding(what, State.GOOD, "all of it")]
    if entry.gpu_share > 0:
        seen = f"{share}; the rest is slow, on the CPU: free its memory, or take a smaller model or num_ctx"
        return [Finding(what, State.BAD, seen, "nvidia-smi")]
    if await asyncio.to_thread(gpus):
        return [Finding(what, State.BAD, "runs on the CPU though there is a GPU", "sudo systemctl restart ollama")]
    return [Finding(what, State.NOTE, "runs on the CPU; this machine has no GPU")]


def _others(state: Answer | None, provider: OllamaSettings) -> list[Finding]:
    """Return what the daemon has seen other clients do since it began."""
    seen: dict[str, int] = {}
    for told in (state or {}).get("chat", {}).get("providers", []):
        if told.get("model") == provider.model:
            seen = told.get("keepalive", {}).get("seen", {})
    told = {"foreign-keep-alive": "set an end to its stay", "other-context": "loaded it with another context"}
    done = [f"{words} {seen[name]} times" for name, words in told.items() if seen.get(name)]
    if not done:
        return []
    remedy = f"in the other client: keep_alive -1 and num_ctx {provider.num_ctx}"
    return [Finding(f"other clients of {provider.model}", State.NOTE, " and ".join(done), remedy)]


def _loaded(entry: Answer) -> Loaded:
    ends = entry.get("expires_at")
    return Loaded(
        name=str(entry["name"]),
        size=int(entry.get("size") or 0),
        size_vram=int(entry.get("size_vram") or 0),
        context_tokens=entry.get("context_length"),
        expires_at=_moment(ends) if ends else None,
    )


def _moment(text: str) -> datetime:
    """Return a time of Go's, whose fractions may have nine digits."""
    whole, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(whole + (point and point + digits[:6].ljust(6, "0")) + rest[len(digits) :])


CHECKS = {"ollama": _ollamas}
