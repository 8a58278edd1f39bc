"""The settings of the chat model: providers, keep-alive, memory, and what is said when no provider answers."""

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


class OllamaSettings(Settings):
    """A chat model served by Ollama."""

    type: Literal["ollama"]
    """Kind of provider."""

    url: Annotated[HttpUrl, AfterValidator(_ollama)] = "http://127.0.0.1:11434"
    """Address of the server."""

    model: Text
    """Name of the model, as `ollama list` shows it."""

    num_ctx: int = Field(4096, ge=256, le=1_048_576)
    """Context length, in tokens; a longer one that another client has loaded is kept."""

    name: Name = "ollama"
    """Name of the provider in answers and logs."""

    api_key_file: DiskPath | None = None
    """File with the key for a proxy in front of it; null takes the environment variable OLLAMA_API_KEY, if set."""

    tell: bool = True
    """Add what `chat.tell` lists to the question; very small models answer worse with it."""


class OpenAISettings(Settings):
    """A chat model behind an OpenAI-compatible API; a hosted one receives what the household says."""

    type: Literal["openai"]
    """Kind of provider."""

    name: Name = "groq"
    """Name of the provider in answers and logs."""

    url: Annotated[HttpUrl, AfterValidator(_openai)] = "https://api.groq.com/openai/v1"
    """Base URL of the API."""

    model: Text
    """Name of the model there."""

    api_key_file: DiskPath | None = None
    """File with the key; null takes the environment variable GROQ_API_KEY (NAME_API_KEY for another name)."""

    tell: bool = True
    """Add what `chat.tell` lists to the question."""


class LocalSettings(Settings):
    """A small GGUF model inside the daemon."""

    type: Literal["local"]
    """Kind of provider."""

    model: str = "smollm2-135m-instruct"
    """Model: a name in the catalogue, the path of a .gguf file, or org/repository:file.gguf on Hugging Face."""

    context_tokens: int = Field(1024, ge=256, le=131_072)
    """Context length of each answer, in tokens."""

    parallel: int = Field(8, ge=1, le=32)
    """Answers generated at the same time; others wait. Each keeps a context in memory: 23 MB with the default model."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 is one per core, at most four, and leaves one core to speech where several answers are given."""

    gpu_layers: int = Field(0, ge=0, le=1000)
    """Layers on the GPU, if xllamacpp was built with GPU support."""

    tell: bool = False
    """Add what `chat.tell` lists to the question; very small models answer worse with it."""


ProviderSettings = Annotated[OllamaSettings | OpenAISettings | LocalSettings, Field(discriminator="type")]


class ChatSettings(Settings):
    """The chat model."""

    providers: tuple[ProviderSettings, ...] = Field((LocalSettings(type="local"),), min_length=1)
    """Providers in order of preference; the next is asked when one fails or is slow to its first word."""

    first_token_seconds: Seconds = 1.5
    """Time for a provider's first word, loading included, before the next is asked as well, in seconds."""

    hedge_seconds: Seconds | None = None
    """Shorter time after which the next is asked as well, in seconds; null is first_token_seconds."""

    hosted: Literal["when_down", "when_slow"] = "when_down"
    """When a hosted provider is asked: if the local ones before it are down, or also if they are slow."""

    system_prompt: str = (
        "You are the voice of the house. Answer in one short sentence. You cannot switch anything on or off."
    )
    """System prompt of the model."""

    tell: tuple[Literal["time", "room", "language"], ...] = ("time", "room", "language")
    """What is added to the question (not to the system prompt, which would invalidate the prefix cache)."""

    max_tokens: int = Field(200, ge=8, le=4096)
    """Longest answer, in tokens."""

    max_characters: int = Field(1500, ge=100, le=100_000)
    """Longest answer, in characters, enforced even if the server ignores `max_tokens`."""

    temperature: float = Field(0.0, ge=0, le=2)
    """Randomness; 0 always gives the most likely answer."""

    history_tokens: int = Field(1500, ge=0, le=1_000_000)
    """Most history of a conversation that is sent, in tokens, within the first provider's context; 0 is none."""

    history_seconds: float = Field(300.0, ge=1, le=86_400)
    """Time after its last answer at which a conversation is forgotten, in seconds."""


class KeepAliveSettings(Settings):
    """Keep-alive: keeps Ollama's model loaded and its prompt cached, so that every question finds a warm model."""

    enabled: bool = True
    """Check and reload the model; off, Ollama is only asked to keep it loaded."""

    interval_seconds: float = Field(0.5, ge=0.05, le=60)
    """Interval between checks, in seconds."""

    idle_interval_seconds: float | None = Field(None, ge=0.05, le=3600)
    """Interval after five minutes without speech, until the next wake word, in seconds; null is interval_seconds."""

    when: Literal["always", "hours", "after_activity"] = "always"
    """Keep it loaded always, during `hours` and after each use, or only after each use; otherwise it is unloaded."""

    hours: tuple[HoursOfDay, ...] = ("06:00-23:00",)
    """Times of day for `when: hours`, in local time; 22:00-01:00 spans midnight."""

    after_activity_seconds: float = Field(900.0, ge=10, le=86_400)
    """Time for which it stays loaded after a use, in seconds."""


class PhraseSettings(Settings):
    """Sentences spoken when there is no answer; null is a built-in sentence in the language of the voice."""

    unavailable: str | None = None
    """Spoken when no chat provider answers."""

    interrupted: str | None = None
    """Spoken when an answer breaks off."""
