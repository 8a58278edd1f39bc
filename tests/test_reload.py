"""Reloading the configuration: what applies at once, what needs a restart, what is refused."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.config.loader import parse
from satellite.config.rooms import WyomingRoomSettings
from satellite.config.settings import Config
from satellite.daemon.daemon import Daemon
from satellite.daemon.reload import merge
from satellite.daemon.serving import Reloader, ReloadRequests
from satellite.errors import ConfigError
from satellite.rooms.room import LinkState
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import rooms
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import until


@pytest.fixture
def _level() -> Iterator[None]:
    """Leave the level of the log as it was."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_settings_outside_the_engines_are_taken_at_once() -> None:
    assert merge(Config(), Config()) == (Config(), [])
    wanted = parse(
        "log_level: debug\nvad: {threshold: 0.7}\nphrases: {unavailable: Sorry.}\nstt: {beam_size: 5}\n"
        "deadlines: {tts_seconds: 3, chat_first_token_seconds: 4}\nchat: {temperature: 1}\n"
    )
    merged, left = merge(Config(), wanted)
    assert merged == parse(
        "log_level: debug\nvad: {threshold: 0.7}\nphrases: {unavailable: Sorry.}\ndeadlines: {tts_seconds: 3}\n"
    )
    assert sorted(left) == ["chat.temperature", "deadlines.chat_first_token_seconds", "stt.beam_size"]


def test_half_of_a_change_is_refused() -> None:
    running = parse("microphone: USB\nhost_room: {name: study}")
    wanted = parse("microphone: USB\nhost_room: {name: office}\nrooms: [{name: study, uri: 'tcp://192.0.2.1:10700'}]\n")
    with pytest.raises(ConfigError, match=r"rooms\[0\]\.name.*also the name of host_room.*host_room\.name"):
        merge(running, wanted)


@pytest.mark.models
@on_loop_of("daemon")
async def test_rooms_that_stay_are_not_dropped(daemon: RunningDaemon) -> None:
    async with (
        ScriptedSatellite(name="stays", mode="wake") as stays,
        ScriptedSatellite(name="goes", mode="wake") as goes,
        ScriptedSatellite(name="comes", mode="wake") as comes,
        rooms(daemon, stays, goes) as hub,
    ):
        link = hub.satellites[0]
        wanted = (WyomingRoomSettings(name="comes", uri=comes.uri), WyomingRoomSettings(name="stays", uri=stays.uri))
        await hub.apply(wanted)
        await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
        assert [one.settings.name for one in hub.satellites] == ["comes", "stays"]
        assert hub.satellites[1] is link
        assert (link.state, link.reconnections) == (LinkState.CONNECTED, 0)
        await goes.until("pause-satellite")


@pytest.mark.models
@on_loop_of("daemon")
async def test_what_is_said_when_little_works_is_kept(daemon: RunningDaemon) -> None:
    running, stages = daemon.daemon.config, daemon.daemon._stages
    wanted = running.model_copy(update={"phrases": parse("phrases: {unavailable: Nothing works today.}").phrases})

    def kept() -> set[str]:
        return {text for _, text in stages._phrases}

    await until(lambda: len(kept()) == 2)  # they are spoken after the daemon is ready
    before = kept()
    try:
        await daemon.daemon.apply(wanted)
        assert kept() >= before
        await until(lambda: "Nothing works today." in kept())
    finally:
        await daemon.daemon.apply(running)
    assert kept() > before


@pytest.mark.usefixtures("_level")
async def test_a_bad_file_is_refused_and_a_good_one_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "config.yaml"
    daemon = Daemon(Config())
    reloader = Reloader(daemon, file, ReloadRequests(file))
    folder = tmp_path / "words"
    folder.symlink_to(folder)  # which cannot be entered, as that of another user
    for content, refusal in (
        (b"log_level: loud\n", f"{file}:1: log_level:"),
        (f"wake:\n  custom_directory: {folder}\n".encode(), f"{file}:2: wake.custom_directory: the folder"),
        (b"\xff\xfe\x00", f"{file}: cannot be read"),
    ):
        file.write_bytes(content)
        await reloader.reload()
        assert reloader.result.startswith(f" · configuration refused: {refusal}")
        assert daemon.config == Config()
    file.unlink()
    await reloader.reload()
    assert "cannot be read" in reloader.result
    file.write_text("log_level: warning\nstt: {beam_size: 3}\n")
    await reloader.reload()
    assert reloader.result == " · needs a restart: stt.beam_size"
    assert daemon.config.log_level == "warning"
    file.write_text("log_level: warning\n")
    await reloader.reload()
    assert reloader.result == ""
    await daemon.__aexit__()
    assert "the configuration is refused, the old one stays" in caplog.text
    assert logging.getLogger().level == logging.WARNING
