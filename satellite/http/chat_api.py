"""`POST /chat`: a question as text, its answer whole or as it comes."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from satellite.errors import ChatRejected, SatelliteError, Stage, StageError
from satellite.events import ChatChunk
from satellite.http.accept import chosen
from satellite.http.context import Context, Outcome, finish, new_conversation, perform, run_request
from satellite.http.problems import of_error, responses
from satellite.http.schemas import ChatAnswer, ChatRequest
from satellite.http.streaming import EVENT_SCHEMA, EVENT_STREAM, Streamed, sse
from satellite.pipeline.request import RunRequest


def routes(context: Context) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter(tags=["conversation"])

    @router.post(
        "/chat", summary="Ask", responses={200: _DESCRIBED, **responses(406, 502, 504)}, response_model=ChatAnswer
    )
    async def chat(question: ChatRequest, request: Request) -> Response:
        """Answer a question: as one object, or with `Accept: text/event-stream` word by word.

        The stream's events are `delta` `{"text"}`, and at last `done` with the object, or `error` with a problem.
        """
        form = chosen(request.headers.get("accept"), ("application/json", EVENT_STREAM))
        check_length(context, question.text)
        conversation = question.conversation_id or new_conversation()
        asked = run_request(
            client_of(request),
            conversation,
            start=Stage.CHAT,
            end=Stage.CHAT,
            text=question.text,
            language=question.language,
        )
        if form == EVENT_STREAM:
            return Streamed(_events(context, asked, conversation), media_type=EVENT_STREAM)
        outcome, _ = await finish(context, asked)
        return json_response(answer(outcome, conversation))

    return router


def client_of(request: Request) -> str:
    """Return the address of a client."""
    return request.client.host if request.client else "unknown"


def check_length(context: Context, text: str, refusal: type[StageError] = ChatRejected) -> None:
    """Raise `refusal` for a text that is too long."""
    longest = context.config.wyoming.max_text_characters
    if len(text) > longest:
        raise refusal(f"a text of {len(text)} characters is too long; at most {longest}", kind="too-long")


def answer(outcome: Outcome, conversation: str) -> dict[str, Any]:
    """Return the object of an answer."""
    return {
        "text": outcome.said,
        "conversation_id": conversation,
        "provider": outcome.provider,
        "timings_ms": outcome.timings_ms,
    }


def json_response(body: dict[str, Any]) -> Response:
    """Return `body` as it is: it is ours, and needs no validation."""
    return Response(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), media_type="application/json")


async def _events(context: Context, asked: RunRequest, conversation: str) -> AsyncGenerator[bytes, None]:
    outcome = Outcome()
    try:
        async with aclosing(perform(context, asked)) as steps:
            async for step in steps:
                outcome.note(step)
                if isinstance(step, ChatChunk):
                    yield sse("delta", {"text": step.text})
    except SatelliteError as error:
        yield sse("error", of_error(error))
    else:
        yield sse("done", answer(outcome, conversation))


_DESCRIBED: dict[str, Any] = {"description": "The answer", "content": {EVENT_STREAM: EVENT_SCHEMA}}
