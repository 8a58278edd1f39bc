"""The settings of the chat model: who answers, how it is kept warm, what it remembers and says when it cannot."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from satellite.config.base import DiskPath, HoursOfDay, HttpUrl, Name, Seconds, Settings, Text

_OLLAMA_PATHS = re.compile(r"/(v1|api)(/[\w./-]*)?$")
_OPENAI_PATHS = re.compile(r"/(chat/completions|completions|responses|models)/?$")


def _ollama(url: str) -> str:
    if found := _OLLAMA_PATHS.search(url):
        raise ValueError(f"expected the server's own address, without {found[0]}: {url[: found.start()]}")
    return url


def _openai(url: str) -> str:
    if found := _OPENAI_PATHS.search(url):
        raise ValueError(f"expected the base of the API, without {found[0]}: {url[: found.start()]}")
    return url


class Ollama(Settings):
    """A chat model served by Ollama."""

    type: Literal["ollama"]
    """Kind of provider."""

    url: Annotated[HttpUrl, AfterValidator(_ollama)] = "http://127.0.0.1:11434"
    """Where the server listens."""

    model: Text
    """Name of the model, as `ollama list` shows it."""

    num_ctx: int = Field(4096, ge=256, le=1_048_576)
    """Context length, tokens; a longer one that another client has loaded is used as it is."""

    name: Name = "ollama"
    """What answers and logs call it."""

    api_key_file: DiskPath | None = None
    """File with the key that a proxy before it wants; null takes the environment's OLLAMA_API_KEY, if it is there."""

    tell: bool = True
    """Tell it what `chat.tell` says; very small models answer worse for it."""


class OpenAICompatible(Settings):
    """A chat model behind an OpenAI-compatible API; a hosted one receives the household's words."""

    type: Literal["openai"]
    """Kind of provider."""

    name: Name = "groq"
    """What answers and logs call it."""

    url: Annotated[HttpUrl, AfterValidator(_openai)] = "https://api.groq.com/openai/v1"
    """Base URL of the API."""

    model: Text
    """Name of the model there."""

    api_key_file: DiskPath | None = None
    """File with the key; null takes the environment's GROQ_API_KEY (or NAME_API_KEY for another name)."""

    tell: bool = True
    """Tell it what `chat.tell` says."""


class Local(Settings):
    """A small GGUF model inside the daemon."""

    type: Literal["local"]
    """Kind of provider."""

    model: str = "smollm2-135m-instruct"
    """Name in the catalogue, path of a .gguf file, or org/repository:file.gguf of the hub."""

    context_tokens: int = Field(1024, ge=256, le=131_072)
    """Context length, tokens."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 is one a core, at most four."""

    gpu_layers: int = Field(0, ge=0, le=1000)
    """Layers on the GPU, where xllamacpp was built for one."""

    tell: bool = False
    """Tell it what `chat.tell` says; very small models answer worse for it."""


Provider = Annotated[Ollama | OpenAICompatible | Local, Field(discriminator="type")]


class Chat(Settings):
    """The chat model."""

    providers: tuple[Provider, ...] = Field((Local(type="local"),), min_length=1)
    """Who answers, in order: the next one is asked when one fails, or is too slow, before its first word."""

    first_token_seconds: Seconds = 1.5
    """How long a provider may take for its first word, loading included, before the next is asked too."""

    hedge_seconds: Seconds | None = None
    """Ask the next provider already after this long, first to speak wins; null waits as long as the setting above."""

    hosted: Literal["when_down", "when_slow"] = "when_down"
    """When a hosted provider is asked: when those in the house before it are down, or also when they are slow."""

    system_prompt: str = (
        "You are the voice of the house. Answer in one short sentence. You cannot switch anything on or off."
    )
    """What the model is told first."""

    tell: tuple[Literal["time", "room", "language"], ...] = ("time", "room", "language")
    """What the model is told about the moment, behind the question: what changes in front is read anew each time."""

    max_tokens: int = Field(200, ge=8, le=4096)
    """Longest answer, tokens."""

    max_characters: int = Field(1500, ge=100, le=100_000)
    """Longest answer, characters, whatever the server makes of `max_tokens`."""

    temperature: float = Field(0.0, ge=0, le=2)
    """Randomness; 0 always gives the likeliest answer."""

    history_tokens: int = Field(1500, ge=0, le=1_000_000)
    """How much of a conversation is remembered, tokens, as far as the first provider's context allows; 0 is nothing."""

    history_seconds: float = Field(300.0, ge=1, le=86_400)
    """How long after its last answer a conversation is forgotten, seconds."""


class KeepAlive(Settings):
    """Keeping Ollama's model loaded and its prompt read, so that no question meets a cold model."""

    enabled: bool = True
    """Watch over the model; off, it is only asked to stay loaded."""

    interval_seconds: float = Field(0.5, ge=0.05, le=60)
    """How often to look after it, seconds."""

    idle_interval_seconds: float | None = Field(None, ge=0.05, le=3600)
    """The same while nobody has spoken for five minutes; a wake word ends that at once. null makes no difference."""

    when: Literal["always", "hours", "after_activity"] = "always"
    """Keep it warm always, or during `hours` and after each use, or only after each use; else it is unloaded."""

    hours: tuple[HoursOfDay, ...] = ("06:00-23:00",)
    """Times of day for `when: hours`, local time; 22:00-01:00 goes past midnight."""

    after_activity_seconds: float = Field(900.0, ge=10, le=86_400)
    """How long after a use it stays warm, seconds."""


class Phrases(Settings):
    """What is said when there is no answer; null is a built-in sentence in the voice's language."""

    unavailable: str | None = None
    """No chat model answers."""

    interrupted: str | None = None
    """The chat model broke off in the middle of its answer."""
