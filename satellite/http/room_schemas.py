"""Bodies of requests and responses about rooms, as the API and the command line send them."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from satellite.config.base import MediaUrl
from satellite.http.schemas import Language, Name, SpokenText, Wire
from satellite.rooms.media_sources import MediaReference
from satellite.skills.choices import Choice

_Sentence = Annotated[str, StringConstraints(pattern=r"\w", max_length=300)]


class ChoiceRequest(Wire):
    """An answer that is expected, as in Home Assistant's `assist_satellite.ask_question`."""

    id: Name = Field(description="What it is called in the result.", examples=["yes"])
    sentences: list[_Sentence] = Field(
        min_length=1, max_length=50, description="What may be said for it.", examples=[["yes please", "go ahead"]]
    )


class AskRequest(Wire):
    """A question for somebody in a room."""

    text: SpokenText = Field(examples=["Are you awake?"])
    choices: list[_Sentence | ChoiceRequest] = Field(
        [], max_length=50, description="Expected answers; one alone is its own `id`.", examples=[["yes", "no"]]
    )
    language: Language | None = Field(None, description="Language of question and answer.", examples=["en"])
    timeout: float = Field(60, ge=1, le=100, description="Seconds for all of it, the question included.")

    def expected(self) -> list[Choice]:
        """Return the choices."""
        return [
            Choice(one, (one,)) if isinstance(one, str) else Choice(one.id, tuple(one.sentences))
            for one in self.choices
        ]


class AskAnswer(Wire):
    """What was said to a question."""

    text: str = Field(examples=["Yes, please."])
    language: str = Field(examples=["en"])
    choice: str | None = Field(description="The choice that was meant; null if it was none.", examples=["yes"])


class MuteRequest(Wire):
    """Whether a room hears nothing."""

    muted: bool = True


class VolumeRequest(Wire):
    """The loudness of a room."""

    volume: float = Field(ge=0, le=1, description="From 0 to 1.", examples=[0.4])


class ListenOnlyRequest(Wire):
    """Whether a room does what is said, but nothing sounds there."""

    listen_only: bool = True


class PlayRequest(Wire):
    """What to play: one of `url`, `file` and `station`."""

    url: MediaUrl | None = Field(
        None, description="Address of a sound file or stream.", examples=["http://radio.example/jazz.mp3"]
    )
    file: Name | None = Field(None, description="File in `hub.media_directory`.", examples=["doorbell.mp3"])
    station: Name | None = Field(None, description="Name in `hub.stations`.", examples=["jazz"])
    announce: bool = Field(
        False, description="Play it as an announcement: not into a conversation; the answer comes once it was heard."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(one is not None for one in (self.url, self.file, self.station)) != 1:
            raise ValueError("expected one of url, file and station")
        return self

    def reference(self) -> MediaReference:
        """Return what is meant."""
        return MediaReference(self.url, self.file, self.station)


class BroadcastRequest(Wire):
    """Something to say in all other rooms."""

    text: SpokenText = Field(examples=["Dinner is ready."])


class CallRequest(Wire):
    """The room to talk with."""

    to: Name = Field(examples=["office"])


class Stopped(Wire):
    """Whether anything was ended."""

    stopped: bool
