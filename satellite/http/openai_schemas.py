"""The part of OpenAI's API that is understood; what else a client sends is passed over, as other servers do."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from satellite.http.schemas import SpokenText


class Lenient(BaseModel):
    """Base of all: clients send much that has no meaning here."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Lenient):
    """A piece of a message."""

    type: Literal["text"]
    text: str = Field(max_length=1_000_000)


class ChatMessage(Lenient):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = Field(examples=["What is the capital of France?"])

    @property
    def text(self) -> str:
        """Return the content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Lenient):
    """What a stream shall carry."""

    include_usage: bool = False


class CompletionRequest(Lenient):
    """A conversation to go on with."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    model: str = Field("satellite", max_length=200, description="Whatever it says, the daemon decides who answers.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1, None] = None


class SpeechRequest(Lenient):
    """A text to be spoken."""

    input: SpokenText = Field(examples=["Dinner is ready."])
    model: str = Field("satellite", max_length=200)
    voice: str = Field(
        "default", min_length=1, max_length=200, description="A voice of `GET /models`; OpenAI's names are the default."
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float | None = Field(None, ge=1, le=1, description="The configured pace only.")
    stream_format: Literal["audio", None] = None


class OpenAIModel(BaseModel):
    """A model."""

    id: str = Field(examples=["satellite"])
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "satellite"


class OpenAIModels(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class Completion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
