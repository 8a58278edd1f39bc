"""The three ways to ask Ollama for an answer: how a request is read in each, and how the answer is written."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.doubles.http import Refusal
from tests.doubles.runner import integer, keep_alive_seconds, timestamp


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whichever way it came."""

    model: str
    messages: list[dict[str, str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    shift: bool | None = None
    keep_alive_seconds: float | None = None
    think: Any = None
    stream: bool = True

    @property
    def is_ping(self) -> bool:
        """Whether there is nothing to answer: the model is to be loaded or unloaded."""
        return not self.messages

    @property
    def unloads(self) -> bool:
        """Whether the model is to be unloaded; Ollama looks at whole seconds."""
        return self.is_ping and self.keep_alive_seconds is not None and self.keep_alive_seconds < 1

    @property
    def longest_answer(self) -> int | None:
        """How many tokens the answer may have; nought and less are no limit."""
        limit = integer(self.options, "num_predict", -1)
        return limit if limit > 0 else None


@dataclass(slots=True)
class Said:
    """An answer, or a piece of one."""

    content: str = ""
    thinking: str = ""


class Dialect(ABC):
    """One request's way of asking and being answered."""

    content_type: ClassVar[str]

    def __init__(self, body: Any) -> None:
        """Read the request; raises `Refusal`."""
        if not isinstance(body, dict):
            raise Refusal(400, f"json: cannot unmarshal {type(body).__name__} into Go value of type api.ChatRequest")
        try:
            self.asked = self.read(body)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise Refusal(400, str(error)) from error

    @abstractmethod
    def read(self, body: dict[str, Any]) -> Asked:
        """Return what is asked; whatever error it raises is a bad request's."""

    @abstractmethod
    def piece(self, said: Said) -> dict[str, Any]:
        """Return an event of a streamed answer."""

    @abstractmethod
    def last(self, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        """Return the last event."""

    @abstractmethod
    def whole(self, said: Said, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        """Return an answer that is not streamed."""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        """Return what is sent instead of an answer, or in the middle of it."""
        return {"error": refusal.message}

    def encoded(self, event: Mapping[str, Any]) -> bytes:
        """Return an event as it is sent."""
        return json.dumps(event).encode() + b"\n"

    def tail(self) -> bytes:
        """Return what follows the last event."""
        return b""


class _Native(Dialect):
    content_type = "application/x-ndjson"

    def piece(self, said: Said) -> dict[str, Any]:
        return {**self._head(), **self.words(said), "done": False}

    def last(self, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        return self.whole(Said(), reason, figures)

    def whole(self, said: Said, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        return {**self._head(), **self.words(said), "done": True, "done_reason": reason, **figures}

    @abstractmethod
    def words(self, said: Said) -> dict[str, Any]:
        """Return the fields that hold the answer."""

    def _head(self) -> dict[str, Any]:
        return {"model": self.asked.model, "created_at": timestamp(time.time_ns())}


class Chat(_Native):
    """`/api/chat`."""

    def read(self, body: dict[str, Any]) -> Asked:
        return Asked(messages=[_message(message) for message in body.get("messages") or ()], **_common(body))

    def words(self, said: Said) -> dict[str, Any]:
        thinking = {"thinking": said.thinking} if said.thinking else {}
        return {"message": {"role": "assistant", "content": said.content, **thinking}}


class Generate(_Native):
    """`/api/generate`."""

    def read(self, body: dict[str, Any]) -> Asked:
        messages = [{"role": "user", "content": str(body["prompt"])}] if body.get("prompt") else []
        if messages and body.get("system"):
            messages.insert(0, {"role": "system", "content": str(body["system"])})
        return Asked(messages=messages, **_common(body))

    def words(self, said: Said) -> dict[str, Any]:
        return {"response": said.content, **({"thinking": said.thinking} if said.thinking else {})}


class Compatible(Dialect):
    """`/v1/chat/completions`: it can set neither context length nor keep-alive."""

    content_type = "text/event-stream"

    def read(self, body: dict[str, Any]) -> Asked:
        if not body.get("messages"):
            raise ValueError("[] is too short - 'messages'")
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        return Asked(
            model=_model(body),
            messages=[_message(message) for message in body["messages"]],
            options={} if limit is None else {"num_predict": limit},
            think=False if body.get("reasoning_effort") == "none" else None,
            stream=body.get("stream") or False,
        )

    def piece(self, said: Said) -> dict[str, Any]:
        return self._document("chat.completion.chunk", {"delta": self._words(said), "finish_reason": None})

    def last(self, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        return self._document("chat.completion.chunk", {"delta": self._words(Said()), "finish_reason": reason})

    def whole(self, said: Said, reason: str, figures: Mapping[str, int]) -> dict[str, Any]:
        prompt, answer = figures["prompt_eval_count"], figures["eval_count"]
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        choice = {"message": self._words(said), "finish_reason": reason}
        return {**self._document("chat.completion", choice), "usage": usage}

    def error(self, refusal: Refusal) -> dict[str, Any]:
        kind = {400: "invalid_request_error", 404: "not_found_error"}.get(refusal.status, "api_error")
        return {"error": {"message": refusal.message, "type": kind, "param": None, "code": None}}

    def encoded(self, event: Mapping[str, Any]) -> bytes:
        return b"data: " + json.dumps(event).encode() + b"\n\n"

    def tail(self) -> bytes:
        return b"data: [DONE]\n\n"

    def _words(self, said: Said) -> dict[str, Any]:
        thinking = {"reasoning": said.thinking} if said.thinking else {}
        return {"role": "assistant", "content": said.content, **thinking}

    def _document(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        head = {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": self.asked.model}
        return {**head, "system_fingerprint": "fp_ollama", "choices": [{"index": 0, **choice}]}


def _common(body: dict[str, Any]) -> dict[str, Any]:
    stream = body.get("stream")
    return {
        "model": _model(body),
        "options": dict(body.get("options") or {}),
        "shift": body.get("shift"),
        "keep_alive_seconds": keep_alive_seconds(body.get("keep_alive")),
        "think": body.get("think"),
        "stream": True if stream is None else bool(stream),
    }


def _model(body: dict[str, Any]) -> str:
    if not body.get("model"):
        raise ValueError("model is required")
    return str(body["model"])


def _message(message: dict[str, Any]) -> dict[str, str]:
    """Return role and words; content may come in parts, of which only words count."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return {"role": str(message["role"]), "content": str(content)}
