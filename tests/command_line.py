"""The commands, run in this process, and the daemon as one of its own."""

import gc
import io
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import psutil
import pytest

from satellite.cli.main import main

SATELLITE = [sys.executable, "-m", "satellite"]


def satellite(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what `satellite` does with these words, as if it had been a process."""
    return ran(main, *words, **environment)


def ran(main: Callable[[list[str]], int], *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what a program whose entry is `main` does with these words."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            status = main(list(words))
        except SystemExit as ended:  # argparse
            status = ended.code if isinstance(ended.code, int) else 1
        finally:
            gc.enable()  # `satellite run` begins without, and this process goes on
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening_ports() -> set[int]:
    """Return where this very process listens; at a port that it has left another one may by now."""
    connections = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def configuration(folder: Path, models: Path, port: int, more: str = "") -> Path:
    file = folder / "config.yaml"
    file.write_text(
        f"models: {{directory: {models}}}\nzeroconf: {{enabled: false}}\nhttp: {{enabled: false}}\n"
        f"wyoming:\n  host: 127.0.0.1\n  port: {port}\n"
        "  wake_port: null\n  stt_port: null\n  tts_port: null\n  handle_port: null\n" + more
    )
    return file


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*SATELLITE, "--config", str(config), "run"], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, process.stderr and process.stderr.read()
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the port did not open")
