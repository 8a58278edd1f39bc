"""Replies that are said again and again."""

from contextlib import aclosing

import pytest

from satellite.config.loader import parse
from satellite.engines.protocols import VoiceChoice
from satellite.pipeline.sound_cache import SoundCache
from satellite.pipeline.stages import RunConfig, SpokenPiece, Stages
from tests.running_daemon import RunningDaemon, on_loop_of


def test_what_is_said_twice_is_kept_within_the_bounds_of_the_memory() -> None:
    sounds = SoundCache(8000)
    sounds.offer("joe", "a", bytes(1000))
    assert sounds.get("joe", "a") is None
    for text in "abcdefghij":
        for _ in range(2):
            sounds.offer("joe", text, text.encode() * 1000)
        sounds.get("joe", "a")
    assert [text for text in "abcdefghij" if sounds.get("joe", text) == text.encode() * 1000] == list("adefghij")
    assert sounds.get("jane", "a") is None
    for cache, sound in ((sounds, bytes(1001)), (sounds, b""), (SoundCache(0), b"ab")):
        for _ in range(3):
            cache.offer("joe", "long, silent or unwanted", sound)
        assert cache.get("joe", "long, silent or unwanted") is None


def test_thousands_of_texts_said_once_push_nothing_out() -> None:
    sounds = SoundCache(8000)
    for _ in range(2):
        sounds.offer("joe", "Timer set.", b"ab")
    for number in range(5000):
        sounds.offer("joe", f"answer {number}", b"ab")
    assert sounds.get("joe", "Timer set.") == b"ab"
    assert len(sounds._once) <= 512
    sounds.offer("joe", "answer 0", b"ab")
    assert sounds.get("joe", "answer 0") is None


@pytest.mark.models
@on_loop_of("daemon")
async def test_a_reply_said_again_costs_the_engine_nothing(daemon: RunningDaemon) -> None:
    text = "Timer set for ten minutes."
    stages = Stages(daemon.daemon.engines, RunConfig.of(parse("")))
    speaker = await stages.speaker(VoiceChoice())

    async def said() -> list[SpokenPiece]:
        async with aclosing(stages.speak(text, speaker)) as pieces:
            return [piece async for piece in pieces]

    first = await said()
    assert len(first) > 2
    assert [piece.text for piece in first] == [""] * (len(first) - 1) + [text]
    await said()
    (third,) = await said()
    assert third.text == text
    assert len(third.pcm) > 22_050
