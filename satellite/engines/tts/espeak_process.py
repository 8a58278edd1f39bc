"""The program that turns text into phonemes by espeak, which writes beyond its arrays at some texts.

Run by its path and isolated, so that it imports nothing but piper-tts's bridge to espeak; its arguments are the folder
of piper-tts, and the voice that most texts are for. Each line of standard input, a socket, is a JSON object with a
`voice` and a `text`, and is answered by one with the `clauses`, or why it `failed`. A fork that waits for the line
reads it, answers and ends: whatever a text does to it, the next is read with sound memory. Where a fork ends without an
answer, the program says that it has `ended`, and ends; otherwise it ends when its standard input does, that is, with
the daemon.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_READ_SECONDS = 3
"""A long sentence takes milliseconds."""

_MEMORY_BYTES = 256 << 20
"""Of which 20 MiB are used."""

_NO_MORE = 3
"""Status of a fork that found the end of standard input."""


def main() -> None:
    """Answer each line of standard input."""
    # The answers go out by a copy of standard output; whatever a library prints there goes to standard error.
    answers = os.dup(1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would contain what is said
    folder, voice = sys.argv[1:]
    sys.path.append(folder)
    bridge = import_module("espeakbridge")
    bridge.initialize(str(Path(folder, "espeak-ng-data")))
    with suppress(RuntimeError):  # unknown: each text for it says so
        bridge.set_voice(voice)  # forks have its dictionary
    while not (status := _status_of_fork(bridge, answers)):
        pass
    if status != _NO_MORE:
        # Perhaps it had no text yet: then this is no answer, and another text must not be asked about here.
        os.write(answers, _line(failed=f"espeak ended with status {status}", ended=True))


def _status_of_fork(bridge: Any, answers: int) -> int:
    fork = os.fork()
    if fork:
        _, status = os.waitpid(fork, 0)
        return os.waitstatus_to_exitcode(status)
    status = 1
    try:
        status = _answer_one(bridge, answers)
    finally:
        os._exit(status)


def _answer_one(bridge: Any, answers: int) -> int:
    request = sys.stdin.buffer.readline()
    if not request:
        return _NO_MORE
    signal.alarm(_READ_SECONDS)
    wanted = json.loads(request)
    try:
        bridge.set_voice(wanted["voice"])
        answer = _line(clauses=bridge.get_phonemes(wanted["text"]))
    except (RuntimeError, ValueError) as error:
        answer = _line(failed=str(error))
    with os.fdopen(answers, "wb") as pipe:
        pipe.write(answer)
    return 0


def _line(**answer: object) -> bytes:
    return json.dumps(answer).encode() + b"\n"


if __name__ == "__main__":
    main()
