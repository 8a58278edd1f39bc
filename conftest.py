"""Shared fixtures: where the models are, and one real daemon for all tests that talk to one."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import settings

from satellite.config.loader import parse
from satellite.models import catalogue
from satellite.models.store import Store
from satellite.system import logs
from tests.driven_rooms import spoken
from tests.http_daemon import client
from tests.hub_server import WHISPER, HubServer
from tests.running_daemon import CLEAR_VOICE, RunningDaemon
from tests.virtual_clock import VirtualClockLoop
from tests.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    import openai

pytest_plugins = ("tests.scheduling",)

settings.register_profile("any machine", deadline=None, max_examples=25)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)  # before the marks are looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the demo models, by whatever fixture: the fast tests run where there are none."""
    for item in items:
        if "models_directory" in getattr(item, "fixturenames", ()):
            item.add_marker("models")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget how the last run ended; where this one is killed, nobody knows."""
    _keep_exit_status(session, None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep how the run ended, for `scripts/test-failed`."""
    _keep_exit_status(session, int(exitstatus))


def _keep_exit_status(session: pytest.Session, status: int | None) -> None:
    cache = getattr(session.config, "cache", None)
    if cache and not hasattr(session.config, "workerinput"):  # not in a worker of pytest-xdist
        cache.set("satellite/exit-status", status)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a test the event loop it is marked for."""
    virtual = item.get_closest_marker("virtual_clock") is not None
    return {"loop": VirtualClockLoop if virtual else asyncio.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the timers of daemons in tests away from those of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATELLITE_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Leave no trace of commands that set up logging."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, logs.NOISY))}
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A local hub with a Whisper repository and a chat model."""
    with HubServer({"org/whisper": dict(WHISPER), "org/chat": {"q4/tiny.gguf": b"GGUF"}}) as server:
        server.become_the_hub(monkeypatch)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty model store."""
    return Store(tmp_path / "models")


@pytest.fixture(scope="session")
def models_directory() -> Path:
    """The folder with the demo models; `satellite models pull demo` fills it."""
    store = Store()
    for spec in catalogue.DEMO:
        store.path(spec)
    return store.directory


@pytest.fixture(scope="session")
def french_models_directory(models_directory: Path) -> Path:
    """The folder with the French demo models too; `satellite models pull demo-fr` fills it."""
    for spec in catalogue.demo_set("fr"):
        Store().path(spec)
    return models_directory


@pytest.fixture(scope="session")
def daemon(models_directory: Path) -> Iterator[RunningDaemon]:
    """A daemon with the demo models and the embedded defaults, but for a voice that always sounds the same."""
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
        f"{CLEAR_VOICE}http: {{requests_per_minute: 100000}}\n"
        "deadlines: {load_seconds: 200, stt_seconds: 100, tts_seconds: 100, chat_first_token_seconds: 100,"
        " chat_gap_seconds: 60}"
    )
    with RunningDaemon(config) as running:
        yield running


@pytest.fixture(scope="session")
def url(daemon: RunningDaemon) -> str:
    """The address of the dashboard."""
    return f"http://127.0.0.1:{daemon.port('http')}/"


@pytest.fixture(scope="session")
def http(daemon: RunningDaemon) -> Iterator[httpx.Client]:
    """A client of the daemon's HTTP server."""
    with client(daemon.port("http")) as one:
        yield one


@pytest.fixture(scope="session")
def ai(daemon: RunningDaemon) -> Iterator["openai.OpenAI"]:
    """OpenAI's own client of the daemon's HTTP server."""
    import openai  # takes seconds

    address = f"http://127.0.0.1:{daemon.port('http')}/v1"
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=PATIENCE_SECONDS) as one:
        yield one


@pytest.fixture(scope="session")
def question(daemon: RunningDaemon) -> bytes:
    """“What is the capital of France?”, spoken, and silence."""
    return asyncio.run(spoken(daemon, "What is the capital of France?"))


@pytest.fixture(scope="session")
def story(daemon: RunningDaemon) -> bytes:
    """A spoken command whose answer is long, and a second of silence."""
    text = "Tell me a long story about a ship, please. Do not stop before it has come to its end."
    return asyncio.run(spoken(daemon, text, quiet_seconds=1))
