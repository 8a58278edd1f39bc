"""The errors of the daemon, each with a code that never changes.

SatelliteError
├── ConfigError            config-invalid, certificate-invalid
│   └── ConfigUnreadable       the file, or one that it names, cannot be read at the moment; certificate-unreadable
├── ModelError             model-unknown, model-missing, model-unreadable, model-corrupt, model-download-failed,
│                          model-disk-full
├── ProtocolError          protocol-error, protocol-timeout, protocol-overload, unknown-program: the peer's fault
├── CannotListen           cannot-listen: an address or a port is not available at the moment
├── ProxyUnusable          proxy-unusable: the proxy named by the environment cannot be used
├── AlreadyRunning         already-running: another daemon has the ports
├── DaemonUnreachable      daemon-unreachable: a command could not talk to a running daemon
└── StageError             one stage of a run failed; `stage` says which
    ├── WakeWordError      wake-*
    ├── SpeechToTextError  stt-*
    ├── ChatError          chat-*
    │   ├── ChatUnavailable    the provider cannot answer now; another one may
    │   └── ChatRejected       the provider refuses this request; repeating it is useless
    └── TextToSpeechError  tts-*

A stage's code is its prefix and one of: `failed`; `busy` (its queue is full); `timeout`; `not-ready` (loading, or it
could not load); `unknown-…` (a name that does not exist); `too-long`; `unsupported-language`. Of a run: `no-speech`,
`no-text-recognized`, `not-detected`, `stream-failed`. Of a chat provider: `refused` (the key), `rate-limited`,
`unreachable`, `empty` (no word to begin with, or none in the answer).
"""

from __future__ import annotations  # the tree refers to classes defined further down

from enum import StrEnum


class Stage(StrEnum):
    """The stages of a run, in order; the value is the prefix of the stage's error codes."""

    WAKE = "wake"
    STT = "stt"
    CHAT = "chat"
    TTS = "tts"


class SatelliteError(Exception):
    """Root of the tree: a message for people and a stable `code` for programs."""

    default_code = "internal-error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


class ConfigError(SatelliteError):
    """The configuration cannot be used; the message names file, line and key of every problem."""

    default_code = "config-invalid"


class ConfigUnreadable(ConfigError):
    """The configuration, or a key's file that it names, cannot be read at the moment; trying again may help."""


class ModelError(SatelliteError):
    """A model is unknown, absent, damaged, or could not be fetched."""

    default_code = "model-missing"


class ProtocolError(SatelliteError):
    """The peer sent something that is not Wyoming, or exceeded a limit; its connection is closed."""

    default_code = "protocol-error"


class CannotListen(SatelliteError):
    """An address or a port is not available at the moment; trying again may help."""

    default_code = "cannot-listen"

    def __init__(self, message: str, *, taken: bool = False) -> None:
        super().__init__(message)
        self.taken = taken
        """Whether another server has the port."""


class ProxyUnusable(SatelliteError):
    """The proxy that the environment names for an address outside the house cannot be used."""

    default_code = "proxy-unusable"


class AlreadyRunning(SatelliteError):
    """Another daemon serves at the configured ports."""

    default_code = "already-running"


class DaemonUnreachable(SatelliteError):
    """No daemon answers at the given address."""

    default_code = "daemon-unreachable"


class StageError(SatelliteError):
    """A stage of a run failed. `kind` completes the stage's prefix to the code."""

    stage: Stage

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message, code=f"{self.stage}-{kind}")


class WakeWordError(StageError):
    """Wake word detection failed."""

    stage = Stage.WAKE


class SpeechToTextError(StageError):
    """Speech could not be turned into text."""

    stage = Stage.STT


class ChatError(StageError):
    """The chat model gave no usable answer."""

    stage = Stage.CHAT


class ChatUnavailable(ChatError):
    """The provider cannot answer now: down, overloaded, too slow, model absent."""


class ChatRejected(ChatError):
    """The provider refuses the request itself: wrong key, prompt too long, bad parameter."""


class TextToSpeechError(StageError):
    """Text could not be spoken."""

    stage = Stage.TTS


STAGE_ERRORS: dict[Stage, type[StageError]] = {
    Stage.WAKE: WakeWordError,
    Stage.STT: SpeechToTextError,
    Stage.CHAT: ChatError,
    Stage.TTS: TextToSpeechError,
}


_SHOWN_CHARACTERS = 80
_WORDS_CHARACTERS = 300


def shown(what: object, longest: int = _SHOWN_CHARACTERS) -> str:
    """Return text of a peer in a form that is safe in messages and logs: cut, and without control characters."""
    text = str(what)
    cut = text[:longest]
    plain = "".join(character if character.isprintable() else _escaped(character) for character in cut)
    return f"{plain}…" if len(text) > longest else plain


def in_words(error: BaseException) -> str:
    """Return any exception as a message: its class, and its text as by `shown`."""
    return f"{type(error).__name__}: {shown(error, _WORDS_CHARACTERS)}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
