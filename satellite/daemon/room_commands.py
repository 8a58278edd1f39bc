"""The event `room` of the Wyoming port: the command line operates rooms, on the daemon's own machine."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from satellite.errors import ProtocolError, shown
from satellite.http import room_schemas as schemas
from satellite.http.schemas import Wire
from satellite.rooms.controls import RoomControls


class RoomCommands:
    """Carries out `{"action": …, "room": …}` with the fields of the HTTP endpoint of the same name."""

    def __init__(self, controls: RoomControls) -> None:
        self._controls = controls
        self._actions: Mapping[str, tuple[type[Wire], Callable[[str, Any], Awaitable[object]]]] = {
            "ask": (schemas.AskRequest, self._ask),
            "start": (Wire, lambda room, _: controls.start(room)),
            "stop": (Wire, self._stop),
            "mute": (schemas.MuteRequest, lambda room, body: controls.set_muted(room, body.muted)),
            "volume": (schemas.VolumeRequest, lambda room, body: controls.set_volume(room, body.volume)),
            "listen-only": (
                schemas.ListenOnlyRequest,
                lambda room, body: controls.set_listen_only(room, body.listen_only),
            ),
            "play": (schemas.PlayRequest, self._play),
            "call": (schemas.CallRequest, lambda room, body: controls.call(room, body.to)),
            "broadcast": (schemas.BroadcastRequest, lambda room, body: controls.broadcast(room, body.text)),
        }

    async def run(self, data: dict[str, Any]) -> dict[str, Any]:
        """Do what `data` says; return what there is to report. Raises `SatelliteError`."""
        action, room, fields = data.get("action"), data.get("room"), dict(data)
        if not isinstance(action, str) or action not in self._actions or not isinstance(room, str):
            raise ProtocolError(f"expected an action and a room, found {shown(action)} and {shown(room)}")
        schema, act = self._actions[action]
        del fields["action"], fields["room"]
        try:
            body = schema.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ProtocolError(f"{where or action}: {first['msg']}") from None
        result = await act(room, body)
        return dict(result) if isinstance(result, Mapping) else {}

    async def _ask(self, room: str, body: schemas.AskRequest) -> dict[str, Any]:
        answer = await self._controls.ask(
            room, body.text, body.expected(), language=body.language, seconds=body.timeout
        )
        return asdict(answer)

    async def _stop(self, room: str, _: Wire) -> dict[str, Any]:
        return {"stopped": await self._controls.stop(room)}

    async def _play(self, room: str, body: schemas.PlayRequest) -> None:
        await self._controls.play([room], body.reference(), announce=body.announce)
