"""`POST /chat`: a question as text, answered whole or as a stream."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from satellite.errors import SatelliteError, Stage
from satellite.events import ChatChunk
from satellite.http.context import Context, Outcome, finish, new_conversation, perform, run_request
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.json_route import JsonRoute
from satellite.http.problems import of_error, responses
from satellite.http.replies import EVENT_SCHEMA, EVENT_STREAM, Streamed, json_response, preferred, sse
from satellite.http.schemas import ChatAnswer, ChatRequest
from satellite.pipeline.request import RunRequest

_ANSWER: dict[str, Any] = {"description": "The answer", "content": {EVENT_STREAM: EVENT_SCHEMA}}


router = APIRouter(tags=["conversation"], route_class=JsonRoute)


@router.post("/chat", summary="Ask", responses={200: _ANSWER, **responses(406, 502, 504)}, response_model=ChatAnswer)
async def chat(question: ChatRequest, request: Request, context: Parts, client: ClientAddress) -> Response:
    """Answer a question: as one object, or with `Accept: text/event-stream` word by word.

    The stream's events are `delta` `{"text"}`, and at last `done` with the object, or `error` with a problem.
    """
    form = preferred(request.headers.get("accept"), ("application/json", EVENT_STREAM))
    context.check_length(question.text)
    conversation = question.conversation_id or new_conversation()
    run = run_request(
        client, conversation, start=Stage.CHAT, end=Stage.CHAT, text=question.text, language=question.language
    )
    if form == EVENT_STREAM:
        return Streamed(_events(context, run, conversation), media_type=EVENT_STREAM)
    outcome, _ = await finish(context, run)
    return json_response(answer(outcome, conversation))


def answer(outcome: Outcome, conversation: str) -> dict[str, object]:
    """Return a `ChatAnswer`."""
    return {
        "text": outcome.run.said,
        "conversation_id": conversation,
        "provider": outcome.run.provider,
        "timings_ms": outcome.timings_ms,
    }


async def _events(context: Context, run: RunRequest, conversation: str) -> AsyncGenerator[bytes, None]:
    outcome = Outcome(run)
    try:
        async with aclosing(perform(context, run)) as steps:
            async for step in steps:
                outcome.note(step)
                if isinstance(step, ChatChunk):
                    yield sse("delta", {"text": step.text})
    except SatelliteError as error:
        # The status has been sent: an error can only be another event.
        yield sse("error", of_error(error).model_dump())
    else:
        yield sse("done", answer(outcome, conversation))
