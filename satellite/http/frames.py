"""What a client of `/ws` may say."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from satellite.http.schemas import ConversationId, Language, SpokenText, Wire


class Hello(Wire):
    """How the conversation shall be; at any time."""

    type: Literal["hello"]
    conversation_id: ConversationId | None = None
    language: Language | None = None
    speak: bool = True
    """Whether answers are spoken."""


class Ask(Wire):
    """A question as text."""

    type: Literal["text"]
    text: SpokenText


class Listen(Wire):
    """A voice command follows."""

    type: Literal["listen"]
    rate: int = Field(16_000, ge=8_000, le=96_000)
    """Samples a second of the sound that follows."""


class End(Wire):
    """The sound is over."""

    type: Literal["end"]


class Cancel(Wire):
    """The answer shall stop."""

    type: Literal["cancel"]


ClientFrame = Hello | Ask | Listen | End | Cancel

FRAMES: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])
