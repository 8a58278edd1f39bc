"""The part of OpenAI's API that is supported; other parameters of a request are kept for `refuse` to check."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from satellite.engines.protocols import Message, Sampling
from satellite.http.openai_parameters import refuse, unsupported
from satellite.http.schemas import SpokenText

_TEXT = ("text", "refusal")

Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class OpenAIRequest(BaseModel):
    """Base of all: clients send more than is supported."""

    model_config = ConfigDict(extra="allow")


class ContentPart(OpenAIRequest):
    """A piece of a message; only text is supported."""

    type: str = Field(max_length=100, examples=["text"])
    text: str = Field("", max_length=1_000_000)
    refusal: str = Field("", max_length=1_000_000)


class FunctionCall(OpenAIRequest):
    """The function that a model wanted to be called, and with which arguments."""

    name: str = Field("", max_length=200)
    arguments: str = Field("", max_length=1_000_000)


class ToolCall(OpenAIRequest):
    """One call of a tool."""

    id: str = Field("", max_length=200)
    function: FunctionCall = FunctionCall()


class ChatMessage(OpenAIRequest):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = Field(None, examples=["What is the capital of France?"])
    name: str | None = Field(None, max_length=200)
    tool_calls: list[ToolCall] | None = Field(None, max_length=100)
    tool_call_id: str | None = Field(None, max_length=200)

    @property
    def text(self) -> str:
        """Return the content as one text. Raises `HttpError` for other content, such as an image."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for part in self.content:
            if part.type not in _TEXT:
                raise unsupported(f"messages.content.{part.type}")
        return "".join(part.text or part.refusal for part in self.content)


class StreamOptions(OpenAIRequest):
    """What a stream contains."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False, None] = None


class CompletionRequest(OpenAIRequest):
    """A conversation to continue."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    model: str = Field("satellite", max_length=200, description="Ignored: the daemon decides who answers.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, description="Longest answer; never longer than `chat.max_tokens`.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same.")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None

    @property
    def sampling(self) -> Sampling:
        """How to sample the answer. Raises `HttpError` for a parameter that is not supported."""
        refuse(self.model_extra)
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=min(limits, default=None),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(stop),
        )

    @property
    def conversation(self) -> list[Message]:
        """The messages as chat models take them; calls of tools and their results become text."""
        messages: list[Message] = []
        names: dict[str | None, str] = {}
        results = False
        for message in self.messages:
            role, text = message.role, message.text
            if role in ("tool", "function"):
                text = f"[{message.name or names.get(message.tool_call_id, 'tool')} returned: {text}]"
                if results:
                    messages[-1] = Message("user", f"{messages[-1].content}\n{text}")
                    continue
            calls = message.tool_calls or []
            names |= {call.id: call.function.name for call in calls}
            text = "\n".join(filter(None, [text, *map(_call, calls)]))
            results = role in ("tool", "function")
            messages.append(Message(_ROLES.get(role, role), text))
        return messages


_ROLES = {"developer": "system", "tool": "user", "function": "user"}


def _call(call: ToolCall) -> str:
    return f"[called {call.function.name}: {call.function.arguments}]"


class VoiceId(OpenAIRequest):
    """A voice by its id."""

    id: str = Field(min_length=1, max_length=200)


class OpenAISpeech(OpenAIRequest):
    """A text to be spoken."""

    input: SpokenText = Field(examples=["Dinner is ready."])
    model: str = Field("satellite", max_length=200)
    voice: Annotated[str, StringConstraints(min_length=1, max_length=200)] | VoiceId = Field(
        "default", description="A voice of `GET /models`; OpenAI's names are the default."
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: float | None = Field(None, ge=0.25, le=4, description="How many times as fast as is configured.")


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


class ChatCompletion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, JsonValue]]
    usage: dict[str, int] | None = Field(description="Tokens, as the provider counts them; null where it does not.")
