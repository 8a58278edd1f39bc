"""`POST /v1/chat/completions`: OpenAI's clients go on with conversations that they keep themselves."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from satellite.engines.protocols import ChatDelta, Sampling
from satellite.errors import SatelliteError, Stage
from satellite.events import ChatChunk, ChatEnd, ChatStart, RunEnd, RunFailed, RunIdentity, RunStart, new_run_id
from satellite.http.chat_api import check_length, client_of, json_response
from satellite.http.context import Context
from satellite.http.http_errors import HttpError
from satellite.http.openai_schemas import Completion, CompletionRequest
from satellite.http.problems import of_error, responses
from satellite.http.streaming import EVENT_SCHEMA, EVENT_STREAM, Streamed, sse
from satellite.pipeline.dialogue import Question

MODEL = "satellite"
"""What answers: whoever the daemon has."""


def routes(context: Context) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    @router.post(
        "/chat/completions",
        summary="Go on with a conversation",
        response_model=Completion,
        responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses(502, 504)},
    )
    async def completions(request: CompletionRequest, http: Request) -> Response:
        """Answer the last message of a conversation: what the house can do itself, else the chat model.

        What is asked for by a parameter is done, or refused as `unsupported_parameter` (400).
        """
        sampling, conversation = request.sampling, request.conversation
        if not conversation[-1].content.strip():
            raise HttpError("the last message is empty", code="http-invalid", param="messages")
        check_length(context, "".join(message.content for message in conversation))
        deltas = _deltas(context, request, sampling, client_of(http))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}
        if request.stream:
            first = await anext(deltas, None)  # errors before the first word are plain responses
            usage = request.stream_options is not None and bool(request.stream_options.include_usage)
            return Streamed(_chunks(head, first, deltas, usage=usage), media_type=EVENT_STREAM)
        text, last = "", None
        async with aclosing(deltas):
            async for last in deltas:
                text += last.text
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text.strip(), "refusal": None},
            "logprobs": None,
            "finish_reason": _finish_reason(last),
        }
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(last)}
        return json_response(body)

    return router


async def _deltas(
    context: Context, request: CompletionRequest, sampling: Sampling, client: str
) -> AsyncGenerator[ChatDelta, None]:
    """Yield the answer; with the usual system prompt, where the client has none of its own.

    Only what a person has said is a question to the house: it is not to do again what a tool's result tells of.
    """
    messages = request.conversation
    if messages[0].role != "system":
        messages = [*context.stages.dialogue.beginning(None), *messages]
    question = Question(messages[-1].content, place=f"http {client}")
    asked = question if request.messages[-1].role == "user" else None
    stages = context.stages
    tell = _Teller(context, question)
    try:
        async with aclosing(stages.read_ahead(stages.answer(asked, messages, sampling=sampling))) as deltas:
            async for delta in deltas:
                if delta.text and delta.stats is not None:  # whole, from the house, which knows no stops
                    delta = replace(delta, text=_stopped(delta.text, sampling.stop))
                tell.delta(delta)
                yield delta
    except SatelliteError as error:
        tell.failed(error)
        raise
    finally:
        tell.end()


def _stopped(text: str, stops: Sequence[str]) -> str:
    """Return `text` up to the first of `stops`."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


class _Teller:
    """Tells the event bus of an answer to a conversation that the client keeps, as a run tells of its own."""

    def __init__(self, context: Context, question: Question) -> None:
        self._bus = context.bus
        self._run = run = RunIdentity(new_run_id(), question.place)
        self._text = ""
        self._ended = False
        self._bus.publish(RunStart(run, Stage.CHAT, Stage.CHAT))
        self._bus.publish(ChatStart(run, question.text))

    def delta(self, delta: ChatDelta) -> None:
        self._text += delta.text
        if delta.text:
            self._bus.publish(ChatChunk(self._run, delta.text))
        if delta.stats is not None:
            self._bus.publish(ChatEnd(self._run, self._text.strip(), delta.provider, delta.stats.described()))
            self._end()

    def failed(self, error: SatelliteError) -> None:
        self._bus.publish(RunFailed(self._run, Stage.CHAT, error.code, str(error)))
        self._end()

    def end(self) -> None:
        """It is over: if it had not ended before, the client has left."""
        if not self._ended:
            self._end(cancelled=True)

    def _end(self, *, cancelled: bool = False) -> None:
        self._ended = True
        self._bus.publish(RunEnd(self._run, cancelled))


async def _chunks(
    head: dict[str, Any], first: ChatDelta | None, rest: AsyncGenerator[ChatDelta, None], *, usage: bool
) -> AsyncGenerator[bytes, None]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(None, {**head, "object": "chat.completion.chunk", "choices": [choice]})

    last = first
    try:
        async with aclosing(rest):
            yield chunk({"role": "assistant", "content": first.text if first else ""})
            async for last in rest:
                if last.text:
                    yield chunk({"content": last.text})
    except SatelliteError as error:
        problem = of_error(error)
        error_ = {"message": problem["detail"], "type": "server_error", "code": problem["code"], "param": None}
        yield sse(None, {"error": error_})
        return
    yield chunk({}, _finish_reason(last))
    if usage:
        yield sse(None, {**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(last)})
    yield b"data: [DONE]\n\n"


def _finish_reason(last: ChatDelta | None) -> str:
    return "length" if last and last.stats and last.stats.truncated else "stop"


def _usage(last: ChatDelta | None) -> dict[str, int] | None:
    """Return the tokens as the provider counted them, None where it did not."""
    stats = last.stats if last else None
    if stats is None or stats.prompt_tokens is None or stats.answer_tokens is None:
        return None
    prompt, answer = stats.prompt_tokens, stats.answer_tokens
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
