"""Bodies of requests and responses, as the API describes them."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, TypeAdapter, ValidationError

from satellite.errors import ProtocolError

Frame = TypeVar("Frame")

Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$", max_length=35)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.:@ -]+$")]
SpokenText = Annotated[str, StringConstraints(pattern=r"\S", max_length=1_000_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]

MOST_VALUES = 5000
"""In the JSON of a client."""

# The closing quote is optional, so that a text without one is read only once.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def has_many_values(body: bytes) -> bool:
    """Tell whether JSON has more than `MOST_VALUES` values, without parsing it."""
    outside = _STRING.sub(b"", body)
    return sum(map(outside.count, (b",", b"[", b"{"))) > MOST_VALUES


class Wire(BaseModel):
    """Base of all: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def parsed_frame(frames: TypeAdapter[Frame], text: str) -> Frame:
    """Return a client's text frame; raises `ProtocolError` for what is none of `frames`."""
    if has_many_values(text.encode(errors="replace")):
        raise ProtocolError(f"JSON has more than {MOST_VALUES} values")
    try:
        return frames.validate_json(text)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in error.errors()[:5])
        raise ProtocolError(what[:500]) from None


class ChatRequest(Wire):
    """A question."""

    text: SpokenText = Field(description="The question.", examples=["What is the capital of France?"])
    conversation_id: ConversationId | None = Field(
        None, description="The conversation to continue, as named by an earlier answer.", examples=["kitchen-tablet"]
    )
    language: Language | None = Field(None, description="Language of the question.", examples=["en"])


class ChatAnswer(Wire):
    """An answer."""

    text: str = Field(examples=["The capital of France is Paris."])
    conversation_id: str = Field(examples=["kitchen-tablet"])
    provider: str | None = Field(description="Who answered.", examples=["ollama"])
    timings_ms: dict[str, float] = Field(
        description="Where the time went: `first_token`, `chat`, `total`.",
        examples=[{"first_token": 61.2, "total": 480}],
    )


class Transcript(Wire):
    """What was said in a recording."""

    text: str = Field(description="Empty when nobody spoke.", examples=["What is the capital of France?"])
    language: str = Field(examples=["en"])
    audio_seconds: float = Field(examples=[2.1])
    timings_ms: dict[str, float] = Field(examples=[{"total": 210.0}])


class SpeechRequest(Wire):
    """A text to be spoken."""

    text: SpokenText = Field(examples=["Dinner is ready."])
    voice: Name | None = Field(None, description="A voice of `GET /models`.", examples=["en_US-joe-medium"])
    language: Language | None = Field(None, description="Language, where no voice is named.", examples=["en"])
    speaker: Name | None = Field(None, description="Speaker of a voice that has several.")


class Sound(Wire):
    """Sound in JSON."""

    content_type: Literal["audio/wav"] = "audio/wav"
    rate: int = Field(description="Samples a second.", examples=[22050])
    seconds: float = Field(examples=[1.2])
    base64: str = Field(description="The WAV file.", examples=["UklGRiQAAABXQVZF"])


class SpokenSound(Wire):
    """A text that was spoken."""

    audio: Sound
    voice: str = Field(examples=["en_US-joe-medium"])


class SpokenAnswer(ChatAnswer):
    """A spoken question's answer, spoken."""

    heard: str = Field(description="The question as it was understood.", examples=["What is the capital of France?"])
    audio: Sound


class AnnounceRequest(Wire):
    """Something to say in rooms."""

    text: SpokenText = Field(examples=["Dinner is ready."])
    rooms: list[Name] = Field(
        [], min_length=1, max_length=200, description="Where; everywhere without it.", examples=[["kitchen"]]
    )
    chime: bool | Name = Field(
        True, description="Sound before it: false for none, or a file in `hub.media_directory`.", examples=[True]
    )


class Announced(Wire):
    """Where an announcement was heard, and where not."""

    heard: list[str] = Field(description="Rooms that heard it.", examples=[["kitchen"]])
    failed: dict[str, str] = Field(description="Why, by room.", examples=[{"bedroom": "it is not connected"}])


class RoomState(BaseModel):
    """The state of a room, as in `GET /rooms`."""

    model_config = ConfigDict(extra="allow")

    room: str = Field(examples=["kitchen"])
    state: str = Field(examples=["connected"])
    doing: str = Field(examples=["listening"])


class Rooms(Wire):
    """The rooms."""

    rooms: list[dict[str, JsonValue]] = Field(
        examples=[[{"room": "kitchen", "uri": "tcp://192.168.1.20:10700", "state": "connected", "doing": "listening"}]]
    )


class Model(Wire):
    """A model."""

    name: str = Field(examples=["tiny.en"])
    languages: list[str] = Field([], examples=[["en"]])
    installed: bool = Field(description="Whether it is on this machine.")
    in_use: bool = Field(description="Whether the daemon uses it now.")
    speakers: list[str] = Field([], description="Speakers of a voice that has several.")


class Models(Wire):
    """Models by what they do."""

    wake: list[Model]
    stt: list[Model]
    chat: list[Model]
    tts: list[Model]


class StageTimes(Wire):
    """When a stage worked, since the run began."""

    name: Literal["wake", "listen", "stt", "chat", "tts"]
    start_ms: float
    end_ms: float | None


class RunError(Wire):
    """Why a run failed."""

    stage: str
    code: str
    text: str


class RunDescription(Wire):
    """One run."""

    id: str
    room: str
    began: str
    total_ms: float | None
    outcome: Literal["running", "done", "error", "cancelled"]
    error: RunError | None
    heard: str
    said: str
    provider: str | None
    switch_reason: str
    stages: list[StageTimes]
    marks: dict[str, float]


class Runs(Wire):
    """The latest runs, the newest first."""

    runs: list[RunDescription]
