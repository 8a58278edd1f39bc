"""The frames of `/room/ws`, by which a browser is a room: what its page sends, and what it is told of timers."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from satellite.config.base import Name
from satellite.http.schemas import Wire
from satellite.skills.timers.timers import TimerEvent

Share = Annotated[float, Field(ge=0, le=1)]


class Join(Wire):
    """Comes first: the browser is this room from now on."""

    type: Literal["join"]
    room: Annotated[Name, StringConstraints(strip_whitespace=True)]
    muted: bool = False
    volume: Share | None = None


class Start(Wire):
    """Somebody has pressed the button to talk."""

    type: Literal["start"]


class Stop(Wire):
    """Somebody wants silence."""

    type: Literal["stop"]


class Mute(Wire):
    """Somebody has switched the microphone off or on."""

    type: Literal["mute"]
    muted: bool


class Volume(Wire):
    """Somebody has changed how loud the page is."""

    type: Literal["volume"]
    volume: Share


class Played(Wire):
    """A sound was heard to its end."""

    type: Literal["played"]
    sound: int = Field(ge=0)


PageFrame = Join | Start | Stop | Mute | Volume | Played

PAGE_FRAMES: TypeAdapter[PageFrame] = TypeAdapter(Annotated[PageFrame, Field(discriminator="type")])


def timer_frame(event: TimerEvent) -> dict[str, object]:
    """Return what the page is told of a timer."""
    timer = event.timer
    return {
        "type": "timer",
        "event": event.kind,
        "id": timer.id,
        "name": timer.name,
        "state": timer.state,
        "seconds_left": event.seconds_left,
        "total_seconds": timer.total_seconds,
    }
