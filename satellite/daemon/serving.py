"""The daemon as a process: signals, systemd, and reloading the configuration on SIGHUP or by a command."""

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path

from satellite.config import loader
from satellite.config.settings import Config, DeadlineSettings, stt_patience, tts_patience
from satellite.daemon import config_check
from satellite.daemon.daemon import Daemon
from satellite.daemon.signals import Signals
from satellite.daemon.systemd import Supervisor
from satellite.errors import ConfigError, in_words
from satellite.monitoring.runs import logged_runs
from satellite.system import logs
from satellite.tasks import end_tasks, first_of

_LOGGER = logging.getLogger(__name__)

_STT_CALL_SECONDS = 30.0
"""Audio that Whisper takes in one call, at most."""

_TTS_CALL_CHARACTERS = 240
"""Text that Piper takes in one call, at most."""


async def serve(config: Config, path: Path | None, *, verbose: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status; a second signal ends the process at once."""
    stop = asyncio.Event()
    requests = ReloadRequests(path)
    daemon = Daemon(config, commands={"reload": requests.answer})
    reloader = Reloader(daemon, path, requests, verbose=verbose)
    Signals(stop.set, requests.wanted.set)
    supervisor = Supervisor(
        lambda: daemon.line + reloader.result, daemon.threads, lambda: _longest_call(daemon.config.deadlines)
    )
    runs = logged_runs(daemon.bus)
    await first_of("start", daemon.__aenter__(), stop.wait())
    if stop.is_set():
        _LOGGER.info("stopped during the start")
        await daemon.__aexit__()
        _LOGGER.info("stopped")
        return 0
    gc.enable()
    runs.start(daemon.background)
    run = daemon.background.run
    tasks = [
        run("supervise", supervisor.run, fatal=True),
        run("report readiness", lambda: _report_ready(daemon, supervisor), fatal=True),
        run("reload", lambda: reloader.run(supervisor.reloading, supervisor.ready)),
    ]
    await first_of("until the end", stop.wait(), daemon.background.broken.wait())
    _LOGGER.info("stopping")
    supervisor.stopping()
    await end_tasks(*(task.task for task in tasks))
    await runs.stop()
    await daemon.__aexit__(None, None, None)
    _LOGGER.info("stopped")
    return 1 if daemon.background.broken.is_set() else 0


class ReloadRequests:
    """Asks for the configuration to be read again, by a signal or by a command over Wyoming."""

    def __init__(self, path: Path | None) -> None:
        self.wanted = asyncio.Event()
        self._file = path or loader.SYSTEM_CONFIG

    async def answer(self, _request: dict[str, object]) -> dict[str, object]:
        """Ask for it, and return the name of the file."""
        self.wanted.set()
        return {"config": str(self._file.absolute())}


class Reloader:
    """Reads the configuration again when it is wanted; an invalid one changes nothing."""

    def __init__(self, daemon: Daemon, path: Path | None, requests: ReloadRequests, *, verbose: bool = False) -> None:
        """Read the file at `path`; with `verbose` its `log_level` is ignored."""
        self.result = ""
        """What the status line says of the last attempt; empty where there is nothing to say."""

        self._daemon = daemon
        self._wanted = requests.wanted
        self._path = path
        self._verbose = verbose

    async def run(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Reload whenever it is wanted, until cancelled; `begin` and `end` are called around it."""
        await self._daemon.ready()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            begin()
            try:
                await self.reload()
            finally:
                end()

    async def reload(self) -> None:
        """Read the configuration and apply what needs no restart; what is wrong with it is logged, not raised."""
        try:
            config = await asyncio.to_thread(config_check.load, self._path)
            left = await self._daemon.apply(config)
        except ConfigError as error:
            self.result = f" · configuration refused: {str(error).splitlines()[0]}"
            _LOGGER.error("the configuration is refused, the old one stays: %s", error, extra={"code": error.code})
            return
        except Exception as error:  # the file may trigger any bug, and the daemon that runs must go on
            self.result = f" · configuration not taken: {in_words(error)}"
            _LOGGER.exception("the configuration cannot be taken, the old one stays")
            return
        if not self._verbose:
            logs.set_level(self._daemon.config.log_level)
        self.result = f" · needs a restart: {', '.join(left)}" if left else ""
        if left:
            _LOGGER.warning("the configuration is taken, but needs a restart for: %s", ", ".join(left))
        else:
            _LOGGER.info("the configuration is taken")


def _longest_call(deadlines: DeadlineSettings) -> float:
    """Return how many seconds an engine may be busy with one call: no caller waits longer."""
    return max(
        deadlines.load_seconds,
        deadlines.stt_seconds * stt_patience(_STT_CALL_SECONDS),
        deadlines.tts_seconds * tts_patience(_TTS_CALL_CHARACTERS),
    )


async def _report_ready(daemon: Daemon, supervisor: Supervisor) -> None:
    await daemon.ready()
    gc.freeze()  # what exists now stays: collections that go through it all would only hold up the event loop
    supervisor.ready()
