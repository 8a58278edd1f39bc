"""Checks of Ollama: version, model, context, GPU share, keep-alive, and interference by other clients."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from satellite.cli.doctor import unit
from satellite.cli.doctor.findings import Finding, Target, bad, good, note
from satellite.config.chat import OllamaSettings
from satellite.config.secrets import chat_key
from satellite.engines.chat.keepalive.loaded_models import LoadedModel, find, full_name
from satellite.errors import ChatError, ConfigError
from satellite.net.http_client import client_settings, is_on_this_host, shown_url
from satellite.system.nvidia import gpus
from satellite.wire.client import JsonObject

_ASK_SECONDS = 3.0
_THINK_VERSION = (0, 9)
"""The first release with the parameter `think`, which turns the printing of reasoning off."""

_UNITS = (Path("/etc/systemd/system/ollama.service"), Path("/usr/lib/systemd/system/ollama.service"))


def start_command(provider: OllamaSettings) -> str:
    """Return the command that starts a provider's Ollama, or installs it."""
    if not is_on_this_host(provider.url):
        return f"curl -sS {shown_url(provider.url)}/api/version"
    if any(unit.exists() for unit in _UNITS):
        return "sudo systemctl start ollama"
    if shutil.which("ollama"):
        return "ollama serve"
    return unit.installer(f"--with-ollama --model {provider.model}")


async def _servers(target: Target) -> Sequence[Finding]:
    findings: list[Finding] = []
    for provider in target.config.chat.providers:
        if isinstance(provider, OllamaSettings):
            findings += await _examined(provider, target)
    return findings


async def _examined(provider: OllamaSettings, target: Target) -> list[Finding]:
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
                return [bad(what, seen, f"ollama pull {provider.model}")]
            shown_model = await _asked(http, "/api/show", {"model": provider.model})
            loaded = [_loaded(entry) for entry in (await _asked(http, "/api/ps"))["models"]]
    except ConfigError as error:
        put = unit.put_secret(provider.api_key_file, f"{provider.name}.key")
        return [bad(what, f"{error}; {unit.TYPE_IT}", f"{put}; {unit.restart()}")]
    except ChatError as error:
        return [bad(what, str(error), "env | grep -i _proxy")]
    # Any program may answer at that address, with JSON of any shape.
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"does not answer: {error or type(error).__name__}"
        return [bad(what, reason, start_command(provider))]
    findings = [_version(what, version, provider)]
    findings += _context(provider, shown_model)
    entry = find(loaded, provider.model)
    findings.append(_residency(provider, target, entry, _trained(shown_model)))
    if entry is not None:
        findings.append(await _share(provider, entry))
    return findings + _interference(target, provider)


async def _asked(http: httpx.AsyncClient, path: str, body: JsonObject | None = None) -> JsonObject:
    response = await (http.get(path) if body is None else http.post(path, json=body))
    answer = response.raise_for_status().json()
    if not isinstance(answer, dict):
        raise ValueError("that is no Ollama")
    return answer


def _version(what: str, version: str, provider: OllamaSettings) -> Finding:
    # Pre-releases, such as 0.9.0-rc1, count as the release.
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _THINK_VERSION:
        seen = f"{version}, with {provider.model}; before 0.9 a model that reasons prints its reasoning"
        return note(what, seen, "curl -fsSL https://ollama.com/install.sh | sh")
    return good(what, f"{version}, with {provider.model}")


def _context(provider: OllamaSettings, model: JsonObject) -> list[Finding]:
    """Compare the configured context with the one that the model was trained with."""
    what = f"context of {provider.model}"
    trained = _trained(model)
    if trained is None:
        return []
    if trained < provider.num_ctx:
        seen = f"{provider.num_ctx} tokens are asked for, the model can read {trained}"
        return [note(what, seen, f"num_ctx: {trained}")]
    return [good(what, f"{provider.num_ctx} of {trained} tokens that the model can read")]


def _trained(model: JsonObject) -> int | None:
    """Return the longest context that the model can read, None where that is unknown."""
    lengths = (value for name, value in model.get("model_info", {}).items() if name.endswith(".context_length"))
    return next((length for length in lengths if isinstance(length, int)), None)


def _residency(provider: OllamaSettings, target: Target, entry: LoadedModel | None, trained: int | None) -> Finding:
    what = f"{provider.model} in memory"
    running, keepalive = target.state is not None, target.config.keepalive
    always = running and keepalive.enabled and keepalive.when == "always"
    if entry is None:
        seen = "is not loaded: the next answer waits for it"
        if always:
            return bad(what, seen, "satellite status")
        return note(what, seen, "" if running else unit.restart())
    # Ollama reloads a model for each request with another context, and two clients would do so in turn.
    if entry.context_tokens is not None and entry.context_tokens < min(provider.num_ctx, trained or provider.num_ctx):
        seen = f"another client has loaded it with a context of {entry.context_tokens} tokens: each reloads it in turn"
        return bad(what, seen, f"give the other client num_ctx {provider.num_ctx}, or set num_ctx here to its")
    now = datetime.now(UTC)
    if entry.stays(now) or entry.expires_at is None:
        return good(what, "is loaded indefinitely")
    minutes = max(0.0, (entry.expires_at - now).total_seconds()) / 60
    seen = f"is loaded for another {minutes:.0f} min, because another client set its keep-alive"
    remedy = "keep_alive: -1 in the other client, or Environment=OLLAMA_KEEP_ALIVE=-1 (systemctl edit ollama)"
    return note(what, seen, remedy)


async def _share(provider: OllamaSettings, entry: LoadedModel) -> Finding:
    what = f"{provider.model} on the GPU"
    if entry.gpu_share >= 1:
        return good(what, "all of it")
    if entry.gpu_share > 0:
        seen = f"{entry.gpu_share:.0%} of it; the rest is slow, on the CPU: free GPU memory, or lower num_ctx"
        return bad(what, seen, "nvidia-smi")
    if await asyncio.to_thread(gpus):
        return bad(what, "runs on the CPU although there is a GPU", "sudo systemctl restart ollama")
    return note(what, "runs on the CPU; this machine has no GPU")


def _interference(target: Target, provider: OllamaSettings) -> list[Finding]:
    """Report what the daemon has seen other clients do to the model since it started."""
    seen: dict[str, int] = {}
    for state in target.providers:
        if state.get("model") == provider.model:
            seen = state.get("keepalive", {}).get("seen", {})
    actions = {"foreign-keep-alive": "set an end to its stay", "other-context": "loaded it with another context"}
    done = [f"{action} {seen[name]} times" for name, action in actions.items() if seen.get(name)]
    if not done:
        return []
    remedy = f"in the other client: keep_alive -1 and num_ctx {provider.num_ctx}"
    return [note(f"other clients of {provider.model}", " and ".join(done), remedy)]


def _loaded(entry: JsonObject) -> LoadedModel:
    ends = entry.get("expires_at")
    return LoadedModel(
        name=str(entry["name"]),
        size=int(entry.get("size") or 0),
        size_vram=int(entry.get("size_vram") or 0),
        context_tokens=entry.get("context_length"),
        expires_at=datetime.fromisoformat(ends) if ends else None,
    )


CHECKS = {"ollama": _servers}
