"""`satellite ask`, `say` and `announce`: a running daemon answers and speaks."""

import argparse
import json
import sys
from pathlib import Path

from wyoming.pipeline import PipelineStage

from satellite.audio.pcm import CANONICAL, write_wav
from satellite.audio.sound_files import SUFFIXES, read_sound
from satellite.errors import SatelliteError
from satellite.wire import client


async def ask(args: argparse.Namespace) -> int:
    """Ask the question, which is text or a recording, and print the answer as it arrives."""
    file = Path(args.question)
    if file.suffix.lower() in SUFFIXES:
        end = PipelineStage.TTS if args.output else PipelineStage.HANDLE
        # The recording is complete, so it is sent as fast as the daemon takes it.
        microphone = client.recording(read_sound(file), realtime=False)
        heard = await client.converse(args.uri, microphone, start=PipelineStage.ASR, end=end)
        if not args.json:
            print(f"heard: {heard.transcript}\n{heard.reply}")
    else:
        show = (lambda _: None) if args.json else (lambda words: print(words, end="", flush=True))
        heard = await client.ask_text(args.uri, args.question, show, args.language)
        if not args.json:
            print()
        # The conversation service answers in text alone; the sound is a second request.
        if args.output:
            spoken = await client.say(args.uri, heard.reply)
            heard.pcm, heard.format = spoken.pcm, spoken.format
    if args.output:
        _write_sound(heard, args.output)
    if args.json:
        answer = {
            "transcript": heard.transcript,
            "reply": heard.reply,
            "provider": heard.provider,
            "audio_seconds": round(heard.audio_seconds, 3),
            "output": str(args.output) if args.output else None,
        }
        print(json.dumps(answer, ensure_ascii=False))
    return 0


async def say(args: argparse.Namespace) -> int:
    """Write the spoken text to a file."""
    heard = await client.say(args.uri, args.text, args.voice, args.speaker)
    _write_sound(heard, args.output)
    if args.json:
        print(json.dumps({"output": str(args.output), "audio_seconds": round(heard.audio_seconds, 3)}))
    return 0


async def announce(args: argparse.Namespace) -> int:
    """Play the spoken text in rooms; the exit status is 1 if one of them did not play it."""
    where = {"rooms": args.rooms} if args.rooms else {}
    chime = False if args.no_chime else args.chime or True
    result = await client.command(args.uri, "announce", text=args.text, chime=chime, **where)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    return report_failed(result)


def report_failed(result: client.JsonObject) -> int:
    """Print where an announcement was not heard; return the exit status, 1 if there is such a room."""
    # Also with --json: standard error is for people.
    for room, reason in result["failed"].items():
        print(f"error: not heard in {room}: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0


def _write_sound(heard: client.RunResult, output: Path) -> None:
    try:
        write_wav(output, bytes(heard.pcm), heard.format or CANONICAL)
    except OSError as error:
        raise SatelliteError(f"{output} cannot be written: {error}", code="bad-output") from error
