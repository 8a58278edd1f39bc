"""OpenAI's API: `POST /v1/chat/completions`, for clients that keep their conversations themselves, and `/v1/models`."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from satellite.engines.protocols import ChatDelta, Sampling
from satellite.errors import SatelliteError, Stage, shown
from satellite.events import ChatChunk, ChatEnd, ChatStart, RunBus, RunEnd, RunFailed, RunIdentity, RunStart, new_run_id
from satellite.http.context import Context
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.error_codes import HttpError
from satellite.http.json_route import JsonRoute
from satellite.http.openai_schemas import ChatCompletion, CompletionRequest, OpenAIModel, OpenAIModels
from satellite.http.problems import of_error, responses
from satellite.http.replies import EVENT_SCHEMA, EVENT_STREAM, Streamed, json_response, sse
from satellite.pipeline.dialogue import Question

_MODEL = "satellite"
"""The one chat model there is: whichever provider the daemon has."""


router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], route_class=JsonRoute)


@router.post(
    "/chat/completions",
    summary="Continue a conversation",
    response_model=ChatCompletion,
    responses={200: {"content": {EVENT_STREAM: EVENT_SCHEMA}}, **responses(502, 504)},
)
async def completions(request: CompletionRequest, context: Parts, client: ClientAddress) -> Response:
    """Answer the last message of a conversation: what the house can do itself, else the chat model.

    A parameter is obeyed, or refused as `unsupported_parameter` (400).
    """
    sampling, conversation = request.sampling, request.conversation
    if not conversation[-1].content.strip():
        raise HttpError("the last message is empty", code="http-invalid", param="messages")
    context.check_length("".join(message.content for message in conversation))
    deltas = _deltas(context, request, sampling, client)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": _MODEL}
    if request.stream:
        usage = request.stream_options is not None and bool(request.stream_options.include_usage)
        first = await anext(deltas, None)  # an error before the first word is still a plain response
        return Streamed(_chunks(head, first, deltas, usage=usage), media_type=EVENT_STREAM)
    return json_response(await _completion(head, deltas))


@router.get("/models", summary="The models", responses=responses(), response_model=OpenAIModels)
async def models(context: Parts) -> OpenAIModels:
    """Return the chat model, the speech-to-text model, and the voices."""
    return OpenAIModels(data=[OpenAIModel(id=name) for name in _names(context)])


@router.get("/models/{model:path}", summary="A model", responses=responses(404), response_model=OpenAIModel)
async def model(model: str, context: Parts) -> OpenAIModel:
    """Return one of them."""
    if model not in _names(context):
        raise HttpError(f"there is no model '{shown(model)}'", code="model_not_found", param="model")
    return OpenAIModel(id=model)


def _names(context: Context) -> list[str]:
    engines = context.stages.engines
    voices = [voice.name for voice in engines.synthesizer.engine.voices]
    return list(dict.fromkeys([_MODEL, engines.transcriber.engine.model, *voices]))


async def _deltas(
    context: Context, request: CompletionRequest, sampling: Sampling, client: str
) -> AsyncGenerator[ChatDelta, None]:
    """Yield the answer; with the usual system prompt, where the client has none of its own."""
    messages = request.conversation
    if messages[0].role != "system":
        messages = [*context.stages.dialogue.beginning(None), *messages]
    question = Question(messages[-1].content, place=f"http {client}")
    # The result of a tool is no command: the house must not carry out what it reports.
    asked = question if request.messages[-1].role == "user" else None
    stages = context.stages
    events = _RunEvents(context.bus, question)
    try:
        async with aclosing(stages.read_ahead(stages.answer(asked, messages, sampling=sampling))) as deltas:
            async for delta in deltas:
                if delta.text and delta.stats is not None:  # a whole answer of the house, which ignores `stop`
                    delta = replace(delta, text=_until_stop(delta.text, sampling.stop))
                events.publish(delta)
                yield delta
    except SatelliteError as error:
        events.fail(error)
        raise
    finally:
        # Closed early by a client that leaves, the generator gets neither an error nor a last delta.
        events.close()


def _until_stop(text: str, stops: Sequence[str]) -> str:
    """Return `text` up to the first of `stops`."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


class _RunEvents:
    """Publishes the events of a run for an answer that no `Run` makes, since the client keeps the conversation."""

    def __init__(self, bus: RunBus, question: Question) -> None:
        self._bus = bus
        self._run = RunIdentity(new_run_id(), question.place)
        self._text = ""
        self._ended = False
        bus.publish(RunStart(self._run, Stage.CHAT, Stage.CHAT))
        bus.publish(ChatStart(self._run, question.text))

    def publish(self, delta: ChatDelta) -> None:
        self._text += delta.text
        if delta.text:
            self._bus.publish(ChatChunk(self._run, delta.text))
        if delta.stats is not None:
            self._bus.publish(ChatEnd(self._run, self._text.strip(), delta.provider, delta.stats.described()))
            self._end()

    def fail(self, error: SatelliteError) -> None:
        self._bus.publish(RunFailed(self._run, Stage.CHAT, error.code, str(error)))
        self._end()

    def close(self) -> None:
        """End a run that has not ended yet: the client has left."""
        if not self._ended:
            self._end(cancelled=True)

    def _end(self, *, cancelled: bool = False) -> None:
        self._ended = True
        self._bus.publish(RunEnd(self._run, cancelled))


async def _completion(head: Mapping[str, object], deltas: AsyncGenerator[ChatDelta, None]) -> dict[str, object]:
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
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(last)}


async def _chunks(
    head: Mapping[str, object], first: ChatDelta | None, rest: AsyncGenerator[ChatDelta, None], *, usage: bool
) -> AsyncGenerator[bytes, None]:
    def chunk(delta: Mapping[str, str], finish: str | None = None) -> bytes:
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
        openai_error = {"message": problem.detail, "type": "server_error", "code": problem.code, "param": None}
        yield sse(None, {"error": openai_error})
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
