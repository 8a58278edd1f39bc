"""A server with Ollama's API that behaves as Ollama 0.32 was seen to, over real sockets.

Its words come from whatever it is handed: a real model, or a script. What a request costs a real one is kept: a model
is loaded at first use and again when the context length differs, one answer is generated at a time, headers come with
the first token, what was read once is not read again, and generation ends when the client hangs up.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import MutableMapping
from typing import Any

from tests.doubles.answering import LINES, Answer, Asked, Fault
from tests.doubles.http import Exchange, HttpServer, Refusal, Words
from tests.doubles.residency import Counts, Residency, Runner, Wanted
from tests.doubles.runner import integer, tagged, timestamp

__all__ = ["Fault", "OllamaServer"]

_VERSION = "0.32.15"
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
}
_WEIGHTS_BYTES = 98_000_000
_BYTES_PER_TOKEN = 23_040  # of context: both halves of the attention's memory in SmolLM2-135M's 30 layers


class OllamaServer(HttpServer):
    """Ollama; every setting may be changed at any time."""

    def __init__(
        self,
        words: Words,
        *,
        models: MutableMapping[str, str] | None = None,
        load_seconds: float = 0,
        overhead_seconds: float = 0,
        keep_alive_seconds: float = 300,
        prefill_seconds_per_token: float = 0,
        max_loaded_models: int = 3,
        trained_context: int = 8192,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.words = words
        # Name and blob; those that share a blob share a runner.
        self.models = {"smollm2": "smollm2"} if models is None else models
        self.library: set[str] = set()  # names of further models, which it can be asked to fetch
        self.load_seconds = load_seconds
        self.overhead_seconds = overhead_seconds  # what each request costs beside; the real one takes about 0.068
        self.keep_alive_seconds = keep_alive_seconds  # OLLAMA_KEEP_ALIVE
        self.prefill_seconds_per_token = prefill_seconds_per_token
        self.max_loaded_models = max_loaded_models
        self.trained_context = trained_context  # the longest context the model allows
        self.vram_share = 1.0  # how much of every runner is on the GPU
        self.fail_loads: str | None = None  # why no model can be loaded
        # Whether prompt_eval_count is the whole prompt, as in the newest releases, or what was read of it.
        self.counts_cached_tokens = False
        self.faults: list[Fault] = []  # one for each of the next requests that are not empty
        self.counts = Counts()
        self._residency = Residency(self, self.counts)

    @property
    def runner(self) -> Runner | None:
        """What was used last of what is loaded."""
        return max(self._residency.loaded.values(), key=lambda runner: runner.last_used, default=None)

    def kill_runner(self) -> None:
        for runner in self._residency.loaded.values():
            runner.kill()

    def forget(self) -> None:
        self._residency.forget()
        self._residency = Residency(self, self.counts)

    async def answer(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", "/api/chat":
                await self._chat(exchange)
            case "POST", "/api/show":
                await self._show(exchange)
            case "POST", "/api/pull":
                await self._pull(exchange)
            case "GET", "/api/ps":
                await exchange.reply(200, {"models": self._resident()})
            case "GET" | "HEAD", "/api/tags":
                await exchange.reply(200, {"models": [self._described(name) for name in self.models]})
            case "GET" | "HEAD", "/api/version":
                await exchange.reply(200, {"version": _VERSION})
            case "GET", "/stand-in/asked":  # the real one tells nobody
                await exchange.reply(200, {"asked": self._asked_for()})
            case "GET" | "HEAD", "/":
                await exchange.reply(200, b"Ollama is running")
            case _:
                await exchange.reply(404, b"404 page not found")

    def _blob(self, model: str) -> str:
        for name, blob in self.models.items():
            if tagged(name) == tagged(model):
                return blob
        raise Refusal(404, f"model '{model}' not found")

    def _described(self, name: str) -> dict[str, Any]:
        name = tagged(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"name": name, "model": name, "size": _WEIGHTS_BYTES, "digest": digest, "details": _DETAILS}

    def _resident(self) -> list[dict[str, Any]]:
        """Return what `/api/ps` lists, what stays longest first."""
        runners = sorted(self._residency.loaded.values(), key=lambda runner: -runner.expires_at())
        return [self._listed(runner) for runner in runners]

    def _listed(self, runner: Runner) -> dict[str, Any]:
        size = _WEIGHTS_BYTES + runner.context_tokens * _BYTES_PER_TOKEN
        return self._described(runner.name) | {
            "size": size,
            "size_vram": int(size * self.vram_share),
            "expires_at": timestamp(runner.expires_at()),
            "context_length": runner.context_tokens,
        }

    def _asked_for(self) -> list[str]:
        """Return the last message of every conversation that it was sent, the oldest first."""
        bodies = [exchange.body for exchange in self.exchanges if exchange.path == "/api/chat"]
        return [str(body["messages"][-1]["content"]) for body in bodies if isinstance(body, dict) and body["messages"]]

    async def _show(self, exchange: Exchange) -> None:
        body = exchange.body if isinstance(exchange.body, dict) else {}
        try:
            self._blob(str(body.get("model") or body.get("name")))
        except Refusal as refusal:
            return await exchange.reply(refusal.status, {"error": refusal.message})
        information = {"general.architecture": "llama", "llama.context_length": self.trained_context}
        shown = {"details": _DETAILS, "model_info": information, "capabilities": ["completion"]}
        return await exchange.reply(200, shown)

    async def _pull(self, exchange: Exchange) -> None:
        """Tell how far it is, a line each; a model that does not exist is told in a line as well."""
        name = str(exchange.body.get("model")) if isinstance(exchange.body, dict) else ""
        told: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if name in self.library:
            self.models[name] = name
            digest = self._described(name)["digest"]
            layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": _WEIGHTS_BYTES}
            told += [layer | {"completed": _WEIGHTS_BYTES * quarters // 4} for quarters in range(5)]
            told += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
        else:
            told.append({"error": "pull model manifest: file does not exist"})
        for line in told:
            await exchange.send(json.dumps(line).encode() + b"\n", LINES)
        await exchange.end()

    async def _chat(self, exchange: Exchange) -> None:
        began = time.monotonic_ns()
        try:
            if exchange.problem:
                raise Refusal(400, exchange.problem)
            await self._served(exchange, Asked.read(exchange.body), began)
        except Refusal as refusal:
            error = {"error": refusal.message}
            if not exchange.streaming:
                return await exchange.reply(refusal.status, error)
            await exchange.send(json.dumps(error).encode() + b"\n", LINES)
            await exchange.end()

    async def _served(self, exchange: Exchange, asked: Asked, began: int) -> None:
        fault = self.faults.pop(0) if self.faults and not asked.is_ping else None
        blob = self._blob(asked.model)
        self.counts.pings += asked.is_ping
        if asked.unloads:
            self._residency.expire(blob)
            return await exchange.reply(200, asked.line(reason="unload"))
        if fault is Fault.BUSY:
            raise Refusal(503, "server busy, please try again.  maximum pending requests exceeded")
        if fault is Fault.CRASH:
            raise Refusal(500, "llama-server process has terminated: exit status 2")
        if fault is Fault.BAD_REQUEST:
            raise Refusal(400, 'option "temperature" must be of type float32')
        runner = await self._loaded(asked, blob)
        try:
            if asked.is_ping:
                return await exchange.reply(200, asked.line(reason="load"))
            answer = Answer(self, exchange, asked, runner, began, fault)
            async with runner.slot:
                return await runner.run(answer.give)
        finally:  # the time to live begins when a request ends, however it ends
            self._residency.release(runner)

    async def _loaded(self, asked: Asked, blob: str) -> Runner:
        context = min(integer(asked.options, "num_ctx", 4096), self.trained_context)
        await asyncio.sleep(self.overhead_seconds)
        return await self._residency.acquire(Wanted(tagged(asked.model), blob, context, asked.keep_alive_seconds))
