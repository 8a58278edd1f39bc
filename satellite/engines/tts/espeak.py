"""Text to phonemes by espeak in a process of its own, because some texts end the process that espeak reads them in.

espeak-ng 1.52 copies text into arrays of fixed size without checking its length, as AddressSanitizer shows.
"""

import atexit
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satellite.errors import TextToSpeechError, in_words, shown

if TYPE_CHECKING:
    from piper import PiperVoice
    from piper.config import PiperConfig

_PROGRAM = Path(__file__).with_name("espeak_process.py")
_ANSWER_SECONDS = 15.0
"""Includes the start of the process, and is longer than it reads one text."""

_MOST_ANSWER_BYTES = 1 << 21
_END_SECONDS = 2.0
"""Time for a killed process to disappear; it takes longer only in an uninterruptible system call."""

_UNNAMED = frozenset(("Cc", "Cs", "Co", "Cn"))
"""Control characters, among them espeak's own commands; halves of characters; private and unassigned ones."""

_JOINERS = "\u200c\u200d"
"""The only invisible characters that tell how a word is read."""

_LONG = re.compile(r"(\S{20,50}[^\w\s]|\S{50})(?=\S)")
"""espeak drops what follows the first 160 bytes of a word."""

_PLAIN_LETTERS = re.compile(r"(\S{16})(?=\S)")
_PLAIN_WORDS = re.compile(r"((?:\S+ ){16})(?=\S)")


def phonemizer(voice: str) -> Callable[[str], list[list[str]]]:
    """Return a function from text to the phonemes of each of its sentences in an espeak `voice`, such as en-us.

    Raises `TextToSpeechError`, as the function does; both block.
    """
    from piper.config import PhonemeType, PiperConfig

    piper = piper_voice(PiperConfig(0, 1, 0, voice, phoneme_id_map={}, phoneme_type=PhonemeType.ESPEAK))
    return lambda text: piper.phonemize(text)


def piper_voice(config: "PiperConfig", folder: Path | None = None) -> "PiperVoice":
    """Return piper-tts's voice for its phonemes, which keeps what it fetches in `folder`; espeak is ready for it.

    Blocking. Raises `TextToSpeechError`.
    """
    import piper
    from piper.config import PhonemeType

    # In place of piper-tts's own module, which has espeak in this process. It is called under piper-tts's lock.
    modules = vars(piper)
    if not isinstance(modules.get("espeakbridge"), EspeakBridge):
        modules["espeakbridge"] = bridge = EspeakBridge()
        atexit.register(bridge.end)
    voice = piper.PiperVoice(config=config, session=None, download_dir=folder or Path())
    if config.phoneme_type == PhonemeType.ESPEAK:
        voice.phonemize("a")  # starts the process, which reads the language's dictionary
    return voice


def readable(text: str) -> str:
    """Return `text` without control characters, and with words of a length that espeak reads to their end."""
    return _LONG.sub(r"\1 ", "".join(map(_readable, text)))


class EspeakBridge:
    """What piper-tts requires of espeak, by the process; for one thread at a time."""

    def __init__(self) -> None:
        self._process: EspeakProcess | None = None
        self._voice = ""

    def initialize(self, folder: str) -> None:
        """Do nothing: the process knows the `folder` of espeak's data."""

    def set_voice(self, voice: str) -> None:
        """Read what follows in an espeak `voice`."""
        self._voice = voice

    def get_phonemes(self, text: str) -> list[tuple[str, str, bool]]:
        """Return the phonemes of each clause, the mark after it, and whether it ends a sentence; blocking.

        Of a text that espeak cannot read, only letters and digits are read. Raises `TextToSpeechError`.
        """
        failed = ""
        for attempt in (readable(text), _plain(text)):
            try:
                answer = self._running().ask(self._voice, attempt)
            except (OSError, ValueError) as error:
                self.end()
                answer = {"failed": in_words(error)}
            if "clauses" in answer:
                return [(phonemes, mark, is_end) for phonemes, mark, is_end in answer["clauses"]]
            failed = answer["failed"]
            if answer.get("ended"):
                self.end()
        raise TextToSpeechError(f"espeak cannot read '{shown(text)}': {failed}")

    def end(self) -> None:
        """End the process, until the next text."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _running(self) -> "EspeakProcess":
        if self._process is None or not self._process.is_running:
            self.end()
            self._process = EspeakProcess(self._voice)
        return self._process


class EspeakProcess:
    """The process; see `espeak_process.py`."""

    def __init__(self, voice: str) -> None:
        """Start it, ready to read texts in `voice`. Raises `OSError`."""
        package = importlib.util.find_spec("piper")
        assert package is not None
        assert package.origin is not None
        ours, theirs = socket.socketpair()
        ours.settimeout(_ANSWER_SECONDS)
        self._socket, self._answers = ours, ours.makefile("rb")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), str(Path(package.origin).parent), voice],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # Ctrl-C does not reach it, and its forks are ended with it
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, voice: str, text: str) -> dict[str, Any]:
        """Return `clauses` or why it `failed`. Raises `OSError` or `ValueError`.

        It is to be ended after that, and where it says that it has `ended`.
        """
        self._socket.sendall(json.dumps({"voice": voice, "text": text}).encode() + b"\n")
        line = self._answers.readline(_MOST_ANSWER_BYTES)
        if not line:
            raise BrokenPipeError("the process of espeak has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End it."""
        if self.is_running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        self._answers.close()
        self._socket.close()


def _readable(character: str) -> str:
    category = unicodedata.category(character)
    if category in _UNNAMED or "\u2800" <= character <= "\u28ff":  # a Braille pattern is read as its list of dots
        return " "
    return "" if category == "Cf" and character not in _JOINERS else character


def _plain(text: str) -> str:
    """Return the letters and digits of `text`, in short words and clauses."""
    letters = "".join(character if unicodedata.category(character)[0] in "LMN" else " " for character in text)
    return _PLAIN_WORDS.sub(r"\1, ", " ".join(_PLAIN_LETTERS.sub(r"\1 ", letters).split()))
