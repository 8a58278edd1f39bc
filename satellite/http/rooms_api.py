"""`POST /rooms/ROOM/…`: operations on one room."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from starlette.responses import Response

from satellite.errors import SatelliteError
from satellite.http.context import Context
from satellite.http.dependencies import Parts
from satellite.http.error_codes import HttpError
from satellite.http.json_route import JsonRoute
from satellite.http.problems import responses
from satellite.http.recordings import BODY
from satellite.http.replies import json_response
from satellite.http.room_schemas import (
    AskAnswer,
    AskRequest,
    BroadcastRequest,
    CallRequest,
    ListenOnlyRequest,
    MuteRequest,
    PlayRequest,
    Stopped,
    VolumeRequest,
)
from satellite.http.schemas import Announced, RoomState, Wire
from satellite.monitoring.status import as_json
from satellite.rooms.media_sources import MediaReference

RoomName = Annotated[str, Path(description="Name of the room, as in the configuration.", examples=["kitchen"])]

router = APIRouter(prefix="/rooms/{room:path}", tags=["rooms"], route_class=JsonRoute)


@router.post("/ask", summary="Ask somebody there", responses=responses(404, 409, 504), response_model=AskAnswer)
async def ask(room: RoomName, question: AskRequest, context: Parts) -> Response:
    """Speak a question in the room, and return what is said there, without a wake word; and which choice that is.

    The choice is the one whose words are closest, null where that is none. If nobody speaks: 422 `stt-no-speech`.
    """
    answer = await context.controls.ask(
        room, question.text, question.expected(), language=question.language, seconds=question.timeout
    )
    return json_response(asdict(answer))


@router.post("/start", summary="Listen now", responses=responses(404, 409), response_model=RoomState)
async def start(room: RoomName, context: Parts, _: Annotated[Wire | None, Body()] = None) -> Response:
    """Listen in the room without the wake word, as after a button."""
    await context.controls.start(room)
    return _state(context, room)


@router.post("/stop", summary="Stop everything there", responses=responses(404), response_model=Stopped)
async def stop(room: RoomName, context: Parts, _: Annotated[Wire | None, Body()] = None) -> Response:
    """End an answer, a timer that rings, an announcement, a call, and what is played."""
    return json_response({"stopped": await context.controls.stop(room)})


@router.post("/mute", summary="Hear nothing there", responses=responses(404, 409), response_model=RoomState)
async def mute(room: RoomName, request: MuteRequest, context: Parts) -> Response:
    """Mute the room's microphone; with `{"muted": false}`, hear again."""
    await context.controls.set_muted(room, request.muted)
    return _state(context, room)


@router.post("/volume", summary="Set the loudness there", responses=responses(404, 409), response_model=RoomState)
async def volume(room: RoomName, request: VolumeRequest, context: Parts) -> Response:
    """Set how loud the room is: its device, if that has a volume of its own, else all sound for it."""
    await context.controls.set_volume(room, request.volume)
    return _state(context, room)


@router.post("/listen-only", summary="Let nothing sound there", responses=responses(404, 409), response_model=RoomState)
async def listen_only(room: RoomName, request: ListenOnlyRequest, context: Parts) -> Response:
    """Do what is said in the room, but play nothing there; with `{"listen_only": false}`, sound again."""
    await context.controls.set_listen_only(room, request.listen_only)
    return _state(context, room)


@router.post("/play", summary="Play something there", responses=responses(404, 409, 502, 504), response_model=RoomState)
async def play(room: RoomName, request: PlayRequest, context: Parts) -> Response:
    """Play a file or an address, such as a radio's; returns once it has begun.

    It is ducked while somebody speaks with the room or something is said there, and ends with a stop. What was played
    there before ends.
    """
    await context.controls.play([room], request.reference(), announce=request.announce)
    return _state(context, room)


@router.post(
    "/play-upload",
    summary="Play a sound file of yours there",
    responses=responses(404, 409),
    response_model=RoomState,
    openapi_extra=BODY,
)
async def play_upload(
    room: RoomName, request: Request, context: Parts, announce: Annotated[bool, Query()] = False
) -> Response:
    """Play the sound file that is the body of the request, otherwise as `/play`."""
    if not (data := await request.body()):
        raise HttpError("the request has no body; expected a sound file", code="http-invalid")
    await context.controls.play([room], MediaReference(data=data), announce=announce)
    return _state(context, room)


@router.post("/call", summary="Call another room", responses=responses(404, 409), response_model=RoomState)
async def call(room: RoomName, request: CallRequest, context: Parts) -> Response:
    """Let the room and another one talk with each other; returns once they hear each other. `/stop` ends it."""
    await context.controls.call(room, request.to)
    return _state(context, room)


@router.post(
    "/broadcast", summary="Say something in all others", responses=responses(404, 502), response_model=Announced
)
async def broadcast(room: RoomName, request: BroadcastRequest, context: Parts) -> Response:
    """Say a text in every other room that is connected, after the chime; returns once it has been heard."""
    return json_response(await context.controls.broadcast(room, request.text))


def _state(context: Context, room: str) -> Response:
    for state in context.status.rooms():
        if state.room == room:
            return json_response(as_json(state))
    raise SatelliteError(f"{room} has gone meanwhile", code="room-unreachable")  # a browser, or a room that is removed
