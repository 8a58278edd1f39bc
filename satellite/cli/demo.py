"""`satellite demo`: fetch the small models, start the daemon, play the part of a room, and show the run."""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from wyoming.event import Event

from satellite import events
from satellite.audio.pcm import BYTES_PER_SECOND, Converter, write_wav
from satellite.audio.sound_files import read_sound
from satellite.cli.models import pull_demo_models
from satellite.config.settings import Config, DeadlineSettings
from satellite.daemon import config_check
from satellite.daemon.daemon import Daemon
from satellite.errors import SatelliteError
from satellite.models.catalogue import demo_set
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite.net.binding import taken
from satellite.tasks import begin_task, end_tasks
from satellite.wire import client

WAKE_PHRASE = "Okay Nabu"
_SPOKEN_WAKE_PHRASES = {"en": "Okay Nabu.", "fr": "Oké, Nabou !"}
"""Spelled as a voice of the language has to read it."""

QUESTIONS = {"en": "What is the capital of France?", "fr": "Quelle est la capitale de la France ?"}

_PATIENT = DeadlineSettings(
    load_seconds=300,
    stt_seconds=150,
    chat_first_token_seconds=100,
    chat_seconds=600,
    chat_gap_seconds=60,
    tts_seconds=150,
)
"""Deadlines without a configuration: on an old or a busy machine, a slow demonstration is better than none."""

_PAUSE_SECONDS = 0.8
"""Between the wake word and the question, as people leave it."""

_TAIL_SECONDS = 3.0
"""Silence after the question, in which the daemon finds its end."""


async def run(args: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    console = Console(stderr=args.json)
    config = configuration(args.config, args.language)
    recording = read_sound(args.wav) if args.wav else None  # before the long work, since it may be unreadable
    pull_demo_models(Store(config.models.directory), args.language, console)
    async with _started(config, console, announce=args.serve) as daemon:
        uri = f"tcp://127.0.0.1:{daemon.ports['port']}"
        with console.status("loading the models"):
            failures = await daemon.ready()
        for failure in failures:
            console.print(f"[red]not ready[/]: [{failure.code}] {failure}", markup=True)
        console.print(f"daemon ready at [bold]{uri}[/]\n")
        outcome = await _converse(daemon, uri, args, recording, console)
        if args.json:
            print(json.dumps(outcome, ensure_ascii=False))
        if args.serve:
            console.print("\nserving; Ctrl+C ends it")
            await asyncio.Event().wait()
    return 0


def configuration(file: Path | None, language: str) -> Config:
    """Return the configuration of a demo in a language, patient unless a file says otherwise; raises ConfigError."""
    return _speaking(language, config_check.load(file) if file else Config(deadlines=_PATIENT))


def _speaking(language: str, config: Config) -> Config:
    """Return `config` with the demo models of a language; English is the default of every setting."""
    if language == "en":
        return config
    models = {spec.kind: spec.name for spec in demo_set(language)}
    stt = config.stt.model_copy(update={"model": models[Kind.STT], "language": language})
    tts = config.tts.model_copy(update={"voice": models[Kind.TTS]})
    return config.model_copy(update={"stt": stt, "tts": tts})


@asynccontextmanager
async def _started(config: Config, console: Console, *, announce: bool) -> AsyncIterator[Daemon]:
    """Run the daemon, on free ports where another program has its own."""
    with tempfile.TemporaryDirectory(prefix="satellite-demo-") as folder:
        if not announce:
            # It ends in a moment: it must not be found in the network, nor take over another daemon's timers.
            passing = {
                "zeroconf": config.zeroconf.model_copy(update={"enabled": False}),
                "commands": config.commands.model_copy(update={"state_directory": Path(folder)}),
            }
            config = config.model_copy(update=passing)
        if busy := await asyncio.to_thread(taken, config.listening()):
            console.print(f"free ports are taken, since others are in use: {', '.join(busy)}")
        async with Daemon(config, free_ports=bool(busy)) as daemon:
            yield daemon


async def _converse(
    daemon: Daemon, uri: str, args: argparse.Namespace, recording: bytes | None, console: Console
) -> dict[str, Any]:
    if args.microphone:
        from satellite.config.host import SoundDeviceSettings
        from satellite.rooms.host.capture import capture

        console.print(f"say [bold]“{WAKE_PHRASE}”[/] and your question")
        microphone: AsyncIterator[bytes] = capture(SoundDeviceSettings(device="default"))
    else:
        # A second wake word in front would be transcribed as part of the question.
        has_wake_word = recording is not None and await client.detects(uri, recording)
        wake_word = (
            b"" if has_wake_word else await _say(uri, _SPOKEN_WAKE_PHRASES[args.language]) + _silence(_PAUSE_SECONDS)
        )
        asked = QUESTIONS[args.language]
        question = await _say(uri, asked) if recording is None else recording
        pcm = _silence(0.5) + wake_word + question + _silence(_TAIL_SECONDS)
        console.print(f"a room says “{WAKE_PHRASE} … {args.wav or asked}”")
        microphone = client.recording(pcm, realtime=True)
    zero = time.monotonic()  # only now: until here the voice has spoken the question, and the room's audio begins
    times: dict[str, float] = {}

    def note_sound(event: Event) -> None:
        if event.type == "audio-chunk":
            times.setdefault("first-sound", time.monotonic())

    # Far more than a run has: a subscription that overflows ends.
    with daemon.bus.subscribe(4096) as steps:
        story = begin_task(_print_story(steps, zero, times, console), "story")
        try:
            heard = await client.converse(uri, microphone, on_event=note_sound)
        finally:
            await end_tasks(story)
    if heard.format is None:
        raise SatelliteError("the run ended without an answer that can be heard")
    write_wav(args.output, bytes(heard.pcm), heard.format)
    outcome = _outcome(heard, times, args.output)
    _conclude(outcome, console)
    return outcome


async def _say(uri: str, text: str) -> bytes:
    heard = await client.say(uri, text)
    assert heard.format is not None
    converter = Converter(heard.format)
    return converter.convert(bytes(heard.pcm)) + converter.flush()


def _silence(seconds: float) -> bytes:
    return bytes(2 * int(seconds * BYTES_PER_SECOND / 2))


_STORY: dict[type[events.RunEvent], str] = {
    events.WakeWordStart: "listening for the wake word",
    events.WakeWordEnd: "wake word [bold]{name}[/]",
    events.SttVadStart: "speech begins",
    events.SttVadEnd: "end of the command",
    events.SttEnd: "transcript: [bold]{text}[/]",
    events.ChatStart: "asking the chat model",
    events.ChatEnd: "answer complete, from [bold]{provider}[/]",
    events.TtsStart: "first sound ready ({voice})",
    events.TtsEnd: "spoken: {audio_seconds:.1f} s of sound",
    events.RunFailed: "[red]{code}[/] {text}",
}

_HELD = (events.SttVadEnd, events.SttEnd, events.ChatStart, events.ChatChunk, events.ChatEnd)
"""What `_print_story` holds back until the first sound, or the failure."""


async def _print_story(
    steps: events.Subscription[events.RunEvent], zero: float, times: dict[str, float], console: Console
) -> None:
    """Print the run as it happens, in seconds since `zero`, and record the first time of each event.

    The answer is made while the daemon waits for the end of the command, and its steps are published only then. So they
    are held until the next step that is published as it happens, and printed in the order of their times.
    """
    held: list[events.RunEvent] = []
    async for event in steps:
        times.setdefault(event.type, event.at)
        if isinstance(event, events.SttVadEnd):
            times.setdefault("speech-end", event.at - event.silence_seconds)
        if isinstance(event, events.SttEnd):
            times.setdefault("stt-begin", event.at - event.seconds)
        if type(event) in _STORY:
            held.append(event)
        if isinstance(event, _HELD):
            continue
        for step in sorted(held, key=lambda step: step.at):
            console.print(f"[dim]{step.at - zero:>7.2f} s[/]  {_sentence(step)}", highlight=False)
        held.clear()


def _sentence(event: events.RunEvent) -> str:
    values = events.as_json(event).items()
    return _STORY[type(event)].format_map({key: escape(v) if isinstance(v, str) else v for key, v in values})


def _outcome(heard: client.RunResult, times: dict[str, float], output: Path) -> dict[str, Any]:
    spans = {
        "voice_to_voice": ("speech-end", "first-sound"),
        "endpoint": ("speech-end", events.SttVadEnd.type),
        "stt": ("stt-begin", events.SttEnd.type),
        "chat_first_token": (events.ChatStart.type, events.ChatChunk.type),
        "chat": (events.ChatStart.type, events.ChatEnd.type),
        "tts_first_sound": (events.ChatChunk.type, events.TtsStart.type),
        "run": (events.RunStart.type, events.RunEnd.type),
    }
    return {
        "wake_word": heard.wake_word,
        "transcript": heard.transcript,
        "reply": heard.reply,
        "provider": heard.provider,
        "audio_seconds": round(heard.audio_seconds, 3),
        "timings_ms": {
            name: round(1000 * (times[end] - times[start]), 1)
            for name, (start, end) in spans.items()
            if start in times and end in times
        },
        "reply_wav": str(output.resolve()),
    }


def _conclude(outcome: dict[str, Any], console: Console) -> None:
    console.print()
    for label, key in (("heard", "transcript"), ("answer", "reply"), ("from", "provider"), ("sound", "reply_wav")):
        console.print(f"{label:>8}  ", end="")
        console.print(outcome[key], markup=False, highlight=False, soft_wrap=True)
    if (waited := outcome["timings_ms"].get("voice_to_voice")) is not None:
        console.print(f"    took  {waited:.0f} ms from the last word to the first sound")
