"""The voice part of the benchmark: times, cuts, both sides at work, tables and picture."""

import asyncio
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from satellite_bench import chat_servers, marks, microvad, own, part_tables, voice_picture
from satellite_bench.chat_bare import Bare
from satellite_bench.commands import main
from satellite_bench.server import Server, connected
from satellite_bench.splicing import Spliced
from satellite_bench.voice import Streamed, StreamingFigures, Turn, VoiceFigures, VoiceResult
from satellite_bench.voice_rival import HomeAssistant
from satellite_bench.voice_room import VoiceRoom
from satellite_bench.voice_run import VoicePlan
from satellite_bench.voice_streaming import StreamingRoom
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.vad import VoiceStopped
from wyoming.wake import Detect, Detection

from satellite.audio.corpus import Clip, Corpus
from satellite.audio.pcm import RATE, read_wav, seconds_of
from tests.doubles.http import Words, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.running_daemon import DATA, RunningDaemon

SILENCE, SOUND = bytes(2 * RATE // 5), np.full(RATE // 10, 3000, np.int16).tobytes()
"""0.2 s in which nothing is heard, and 0.1 s of something."""


def recording(speech_end_seconds: float, pauses_ms: tuple[int, ...] = ()) -> Spliced:
    """Return ten seconds whose speech ends there."""
    return Spliced("clip", pauses_ms, bytes(20 * RATE), speech_end_seconds)


def answered(first_sound_ms: float, endpoint_ms: float = 500.0, **more: Any) -> Turn:
    """Return a command of which the rest took a tenth of a second less than until its sound is heard."""
    return Turn(
        recording(1.0),
        endpoint_ms=endpoint_ms,
        transcript_ms=endpoint_ms + 100,
        first_audio_ms=first_sound_ms - 100,
        first_sound_ms=first_sound_ms,
        **more,
    )


# A satellite's clock.


Act = Callable[[AsyncTcpClient, float], Awaitable[None]]
"""What a server does when so many seconds of sound have come."""


async def drive(room: VoiceRoom, act: Act) -> None:
    """Be the room's server, and dial anew whenever it hangs up."""
    while True:
        with suppress(OSError):
            async with connected(room.port) as client:
                await client.write_event(Event("run-satellite"))
                heard_seconds = 0.0
                while (event := await client.read_event()) is not None:
                    if event.type == "audio-chunk":
                        heard_seconds += seconds_of(event.payload or b"")
                        await act(client, heard_seconds)
        await asyncio.sleep(0.05)


async def played(spoken: Spliced, act: Act, *, answered: bool = True) -> Turn:
    """Return the turn of a recording in a room whose server does as `act` says."""
    async with VoiceRoom() as room:
        serving = asyncio.create_task(drive(room, act))
        try:
            await room.claimed_again()
            return await room.turn(spoken, answered=answered)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def once(at_seconds: float, *events: Eventable) -> Act:
    """Send `events` as soon as so much sound has come."""
    done = False

    async def act(client: AsyncTcpClient, heard_seconds: float) -> None:
        nonlocal done
        if not done and heard_seconds >= at_seconds:
            done = True
            for event in events:
                await client.write_event(event.event())

    return act


async def test_the_first_sound_is_the_first_that_can_be_heard() -> None:
    sound = AudioChunk(RATE, 2, 1, SILENCE + SOUND)
    events = (VoiceStopped(), Transcript("Lights on."), AudioStart(RATE, 2, 1), sound)
    turn = await played(recording(0.3), once(0.8, *events))
    assert turn.complete
    assert turn.words == "Lights on."
    assert turn.endpoint_ms is not None
    assert turn.transcript_ms is not None
    assert turn.first_audio_ms is not None
    assert turn.endpoint_ms >= 499  # what had come by then ended half a second behind the speech
    assert turn.endpoint_ms <= turn.transcript_ms <= turn.first_audio_ms
    assert turn.first_sound_ms == pytest.approx(turn.first_audio_ms + 200)
    assert turn.after_commit_ms == pytest.approx(turn.first_audio_ms - turn.endpoint_ms)


async def test_in_a_room_that_streams_the_last_end_counts() -> None:
    def says(*seconds_and_events: tuple[float, list[Eventable]]) -> Act:
        waiting = list(seconds_and_events)

        async def act(client: AsyncTcpClient, heard_seconds: float) -> None:
            while waiting and heard_seconds >= waiting[0][0]:
                for event in waiting.pop(0)[1]:
                    await client.write_event(event.event())

        return act

    sound: list[Eventable] = [AudioStart(RATE, 2, 1), AudioChunk(RATE, 2, 1, SOUND)]
    act = says(
        (0.01, [Detect()]),
        (0.5, [Detection("okay_nabu")]),
        (1.5, [VoiceStopped(), Transcript("Lights."), *sound]),
        (2.5, [AudioStop(), VoiceStopped(), Transcript("Lights on."), *sound, AudioStop(), Detect()]),
    )
    async with StreamingRoom() as room:
        serving = asyncio.create_task(drive(room, act))
        try:
            await room.until("detect")
            found = await room.streamed(SOUND, recording(0.3, (800,)))
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    assert (found.withdrawn, found.stuttered, found.turn.words) == (1, True, "Lights on.")
    assert found.turn.complete
    assert found.in_time == (found.turn.endpoint_ms is not None and found.turn.endpoint_ms <= 1500)


def test_what_a_room_that_streams_shows_is_judged() -> None:
    cut, whole = (Streamed(answered(700, endpoint)) for endpoint in (-100.0, 600.0))
    late, stuttered = Streamed(answered(2100, 2000.0)), Streamed(answered(700), 1, stuttered=True)
    found = StreamingFigures([whole], [cut, whole, stuttered], [whole, late])
    result = VoiceResult("a corpus", streaming=found)
    assert [verdict.ours for verdict in marks.voice_verdicts(result)] == [pytest.approx(200 / 3), 50]
    *_, table = part_tables.voice_tables(result)
    assert [row[2] for row in table.rows[-3:]] == ["2 of 3", "1 of 3", "1 of 2"]
    assert json.loads(json.dumps(result.described()))["streaming"]["paused"] == {"as_one": 2, "of": 3}


async def test_an_end_amid_the_speech_is_a_cut() -> None:
    turn = await played(recording(9.0), once(0.1, VoiceStopped()), answered=False)
    assert turn.cut
    assert turn.endpoint_ms is not None
    assert turn.endpoint_ms < 0
    assert not turn.complete


async def test_a_run_that_fails_is_unanswered() -> None:
    turn = await played(recording(0.1), once(0.2, VoiceStopped(), Error("no words were understood")))
    assert (turn.cut, turn.complete, turn.error) == (False, False, "no words were understood")
    assert turn.first_sound_ms is None
    assert (await played(recording(0.1), once(0.2, Error("nobody spoke")))).cut


async def test_an_answer_without_sound_is_unanswered() -> None:
    silent = AudioChunk(RATE, 2, 1, SILENCE)
    turn = await played(recording(0.1), once(0.2, VoiceStopped(), AudioStart(RATE, 2, 1), silent, AudioStop()))
    assert turn.first_audio_ms is not None
    assert turn.first_sound_ms is None


# Home Assistant's side, with our own services in the place of the official ones.


@asynccontextmanager
async def home_assistant(daemon: RunningDaemon, words: Words) -> AsyncIterator[HomeAssistant]:
    """Give out Home Assistant's pipeline, whose chat server says `words`."""
    server = Server("both", daemon.port(), 0)
    async with (
        OllamaServer(words) as ollama,
        microvad.listening(Path(sys.executable)) as vad,
        Bare(chat_servers.asking_ollama(ollama.url)) as chat,
    ):
        yield HomeAssistant(server, server, chat, vad)


async def rival_turn(daemon: RunningDaemon, words: Words) -> Turn:
    """Return the turn of a recorded command."""
    pcm = read_wav(DATA / "commands" / "is_the_garage_door_open.wav") + bytes(8 * RATE)
    async with home_assistant(daemon, words) as rival:
        return await rival.turn(Spliced("garage", (), pcm, 1.5))


@pytest.mark.models
async def test_home_assistant_speaks_a_short_answer_once_it_is_whole(daemon: RunningDaemon) -> None:
    turn = await rival_turn(daemon, script("It", " is."))
    assert turn.complete
    assert turn.error == ""
    assert "garage door" in turn.words.lower()
    stages = (turn.endpoint_ms, turn.transcript_ms, turn.answer_ms, turn.first_audio_ms, turn.first_sound_ms)
    assert None not in stages
    assert list(stages) == sorted(stages, key=lambda ms: ms or 0.0)


@pytest.mark.models
async def test_home_assistant_speaks_a_long_answer_while_it_is_made(daemon: RunningDaemon) -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    queue.put_nowait("The garage door has been open since this morning. ")
    queue.put_nowait("It was opened by the neighbour. And")
    turn = await rival_turn(daemon, dictated(queue))
    assert turn.complete
    assert turn.answer_ms is None


async def test_the_chat_server_tells_what_it_was_asked() -> None:
    async with OllamaServer(script("Yes.")) as ollama, httpx.AsyncClient(base_url=ollama.url) as http:
        for messages in ([], [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Well?"}]):
            await http.post("/api/chat", json={"model": "smollm2", "messages": messages, "stream": False})
        assert (await http.get("/stand-in/asked")).json()["asked"] == ["Well?"]


# What is made of it.


def result(*, rival: bool = True) -> VoiceResult:
    """Return four commands of ours, one of them cut, one unanswered, and three of theirs."""
    ours = VoiceFigures([answered(700), answered(800), answered(150, -100), Turn(recording(1), 500, error="deaf")])
    ours.spliced = {300: [False, False], 500: [True, False], 800: []}
    ours.questions = 5
    theirs = VoiceFigures([answered(ms, 1300, answer_ms=1700.0) for ms in (2000, 2100, 2600)], questions=3)
    return VoiceResult("a corpus", ours, theirs if rival else None)


def test_only_complete_commands_have_a_time() -> None:
    found = json.loads(json.dumps(result().described()))
    ours = found["satellite"]
    assert (ours["n"], ours["complete"]) == (4, 2)
    assert (ours["p50_ms"], ours["p95_ms"], ours["max_ms"]) == (750, 795, 800)
    assert ours["false_cutoff_rate"] == 0.25
    assert ours["false_cutoff_rate_spliced"] == {"300": 0, "500": 0.5, "800": None}
    assert ours["work_after_commit_p50_ms"] == 150
    assert ours["model_calls_per_command"] == 1.25
    assert ours["unanswered"] == [{"recording": "clip", "words": "", "error": "deaf"}]
    assert found["rival"].keys() == ours.keys()
    assert found["rival"]["p50_ms"] == 2100
    assert result(rival=False).described()["rival"] is None
    nothing = VoiceFigures().described()
    assert (nothing["n"], nothing["p50_ms"], nothing["model_calls_per_command"]) == (0, None, None)


def test_voice_to_voice_is_judged() -> None:
    reached = {verdict.mark: verdict.reached for verdict in marks.voice_verdicts(result())}
    assert reached == {
        "Voice to voice: median": False,
        "Voice to voice: median, at most 1/4 of theirs": False,
        "Voice to voice: p95": False,
        "Voice to voice: p95, at most 1/4 of theirs": False,
        "Voice to voice: slowest": True,
        "Voice to voice: slowest, at most 1/4 of theirs": False,
        "Voice: work left after the end of the command, median": False,
        "Voice: cut too early, pauses of 300 ms": True,
        "Voice: cut too early, pauses of 500 ms": False,
        "Voice: calls of the chat model a command": True,
    }
    assert not [v for v in marks.voice_verdicts(result(rival=False)) if "theirs" in v.mark]
    assert list(marks.voice_verdicts(VoiceResult("nothing"))) == []


def test_the_time_goes_from_stage_to_stage() -> None:
    behind = voice_picture.spans(answered(2000, 1300, answer_ms=1700.0))
    assert [(span.stage.label, span.end_ms) for span in behind] == [
        ("waiting for the end", 1300),
        ("speech to text", 1400),
        ("chat model", 1700),
        ("voice", 2000),
    ]
    beside = voice_picture.spans(answered(900, 500, answer_ms=1700.0))
    assert [(span.stage.label, span.end_ms) for span in beside][-1] == ("chat model and voice at once", 900)
    assert [span.begin_ms for span in beside] == [0, 500, 600]


def test_tables_and_pictures_show_both_sides_on_one_axis() -> None:
    times, cut = part_tables.voice_tables(result())
    assert ("**first sound**", "satellite", "2", "750", "795", "800", "750") in times.rows
    assert cut.rows[0] == ("satellite", "1 of 4 (25.0 %)", "0 of 2", "1 of 2 (50.0 %)", "0 of 0", "1.25")
    ours, theirs, _ = voice_picture.waterfall(result())
    assert len(theirs.split()[1]) == pytest.approx(60, abs=1)
    assert len(ours.split()[1]) == pytest.approx(60 * 700 / 2100, abs=1)
    picture = ET.fromstring(voice_picture.svg(result()))
    texts = {"".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"satellite", "rival", "700 ms", "2100 ms", "0"} <= texts
    assert voice_picture.svg(VoiceResult("nothing")) == ""
    assert voice_picture.waterfall(VoiceResult("nothing")) == []


@pytest.mark.parametrize(
    ("limit", "synthetic", "count"), [(None, False, 50), (None, True, 20), (3, False, 3), (99, True, 50)]
)
def test_recordings_are_taken_from_all_over_the_corpus(limit: int | None, synthetic: bool, count: int) -> None:
    clips = [Clip(str(number), "words", b"") for number in range(50)]
    chosen = VoicePlan(limit).chosen(Corpus("c", (*clips, Clip("silence", "", b""))), synthetic=synthetic)
    assert len(chosen) == count == len({clip.name for clip in chosen})
    assert chosen[0].name == "0"


@pytest.mark.models
def test_voice_to_voice_is_measured(
    models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("is_the_garage_door_open", "set_lights_to_red"):
        for suffix in ("wav", "txt"):
            (clips / f"{name}.{suffix}").write_bytes((DATA / "commands" / f"{name}.{suffix}").read_bytes())
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {models_directory}}}\n", encoding="utf-8")
    picture = tmp_path / "voice.svg"
    options = ["voice", "--no-rivals", "--json", "--corpus", str(clips), "--picture", str(picture)]
    assert main(["--config", str(config), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    ours = found["satellite"]
    assert (ours["n"], ours["complete"], ours["unanswered"]) == (2, 2, [])
    assert 0 < ours["endpoint_p50_ms"] <= ours["transcript_p50_ms"] <= ours["first_audio_p50_ms"] <= ours["p50_ms"]
    assert ours["p50_ms"] <= ours["p95_ms"] <= ours["max_ms"]
    assert ours["false_cutoff_rate"] == 0
    assert {length: found["of"] for length, found in ours["spliced"].items()} == {"300": 2, "500": 2, "800": 2}
    assert ours["model_calls_per_command"] >= 1
    assert found["rival"] is None
    assert found["machine"]["cores"] > 0
    assert found["machine"]["versions"]["ours"]["satellite"]
    assert "<svg" in picture.read_text(encoding="utf-8")


@pytest.mark.models
def test_french_is_measured_with_the_french_models(
    french_models_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "name.wav").write_bytes((DATA / "other" / "whats_your_name_french_44k.wav").read_bytes())
    (clips / "name.txt").write_text("Comment t'appelles-tu ?", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(f"models: {{directory: {french_models_directory}}}\n", encoding="utf-8")
    options = ["voice", "--language", "fr", "--no-rivals", "--json", "--corpus", str(clips)]
    assert main(["--config", str(config), *options]) == 0
    ours = json.loads(capsys.readouterr().out)["satellite"]
    assert (ours["n"], ours["complete"], ours["unanswered"]) == (1, 1, [])


def test_french_is_heard_and_spoken_by_the_french_models(tmp_path: Path) -> None:
    command = own.daemon(tmp_path, tmp_path, 1, language="fr")
    written = yaml.safe_load(own.config_file(tmp_path, command.port).read_text(encoding="utf-8"))
    assert (written["stt"]["model"], written["stt"]["language"], written["tts"]["voice"]) == ("base", "fr", "ff_siwis")


def test_other_parts_are_measured_in_english_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voice", "stt", "--language", "fr"]) == 1
    assert "only voice is measured in other languages" in capsys.readouterr().err
