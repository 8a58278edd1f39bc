"""A house where French and English are spoken: each command is heard, understood and answered in its own language."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from satellite.audio.pcm import BYTES_PER_SECOND, Converter
from satellite.config.loader import parse
from satellite.events import ChatEnd, RunEnd, RunEvent, Subscription, TtsStart
from satellite.rooms.room import LinkState
from satellite.wire import client
from tests.command_line import free_port
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import ask
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.scripted_engine import unread
from tests.test_http_websocket import Peer
from tests.waiting import until

pytestmark = pytest.mark.models

PORT = free_port()
VOICES = {"fr": "ff_siwis", "en": "en_US-joe-medium"}


@pytest.fixture(scope="module")
def house(french_models_directory: Path) -> Iterator[RunningDaemon]:
    text = f"""
models: {{directory: {french_models_directory}}}
zeroconf: {{enabled: false}}
wyoming: {{host: 127.0.0.1}}
languages: [fr, en]
rooms: [{{name: salon, uri: "tcp://127.0.0.1:{PORT}"}}]
stt: {{model: base}}
tts: {{voice: ff_siwis, noise_scale: 0, noise_w_scale: 0}}
"""
    with RunningDaemon(parse(text)) as one:
        yield one


async def said(house: RunningDaemon, language: str, text: str) -> bytes:
    """Return `text` in a voice of the language, and silence."""
    heard = await client.say(house.uri, text, VOICES[language])
    assert heard.format is not None
    converter = Converter(heard.format)
    return converter.convert(bytes(heard.pcm)) + converter.flush() + bytes(2 * BYTES_PER_SECOND)


@on_loop_of("house")
async def test_each_command_in_a_room_has_its_own_language(house: RunningDaemon) -> None:
    (room,) = house.daemon.house.hub.satellites
    async with ScriptedSatellite(name="salon", mode="wake", port=PORT) as salon:
        await until(lambda: room.state is LinkState.CONNECTED)
        for language, words, answer in (
            ("en", "Set a timer for five minutes.", r"[Tt]imer"),
            ("fr", "Il reste combien de temps sur le minuteur ?", r"restante"),
            ("en", "Cancel the timer.", r"[Tt]imer"),
            ("fr", "Mets un minuteur de dix minutes.", r"[Mm]inuteur"),
            ("en", "How much time is left on the timer?", r"minutes.* left"),
            ("fr", "Annule tous les minuteurs.", r"[Mm]inuteur"),
            ("en", "Stop.", r"^$"),
            ("fr", "Arrête.", r"^$"),
        ):
            with house.daemon.bus.subscribe(4096) as events:
                heard = await ask(salon, await said(house, language, words))
                run: dict[type, RunEvent] = {}

                def is_over(run: dict[type, RunEvent] = run, events: Subscription[RunEvent] = events) -> bool:
                    run.update({type(event): event for event in unread(events)})
                    return RunEnd in run

                await until(is_over)
            ended, chosen = run[ChatEnd], run[TtsStart]
            assert isinstance(ended, ChatEnd)
            assert isinstance(chosen, TtsStart)
            assert (ended.provider, chosen.voice) == ("commands", VOICES[language]), heard
            assert re.search(answer, ended.text), ended.text


@on_loop_of("house")
async def test_each_command_through_ws_has_its_own_language(house: RunningDaemon) -> None:
    async with connect(f"ws://127.0.0.1:{house.port('http')}/ws", max_size=None) as connection:
        peer = Peer(connection)
        await peer.event()
        for language, words, answer in (
            ("fr", "Mets un minuteur de dix minutes.", r"minuteur|appareil"),
            ("en", "How much time is left on the timer?", r"No timers\."),
            ("fr", "Il est quelle heure ?", r"Il est \d\d:\d\d"),
            ("en", "What time is it?", r"\d+:\d\d [AP]M"),
            ("fr", "Annule tous les minuteurs.", r"Aucun minuteur en cours\."),
        ):
            await peer.say("listen")
            await peer.stream(await said(house, language, words) + bytes(6 * BYTES_PER_SECOND))
            run = await peer.run("end")
            assert run["stt-end"]["language"] == language, words
            assert run["chat-end"]["provider"] == "commands", run["stt-end"]["text"]
            assert re.search(answer, run["chat-end"]["text"])
            assert run["tts-start"]["voice"] == VOICES[language]
