"""What a run must show to be good enough, and whether it did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from satellite_bench import microvad
from satellite_bench.chat_run import ChatResult
from satellite_bench.endpoint import OURS, EndpointFigures, EndpointResult
from satellite_bench.hearing import HearingResult
from satellite_bench.http import HttpResult
from satellite_bench.memory import MemoryResult
from satellite_bench.rooms import RoomsResult
from satellite_bench.speaking import SpeakingResult
from satellite_bench.stats import Compared
from satellite_bench.stt import SttResult
from satellite_bench.tts import TtsFigures, TtsResult
from satellite_bench.voice import VoiceResult
from satellite_bench.wake import WakeResult

_VOICE_MS = {"median": 420.0, "p95": 700.0, "max": 1500.0}
_AS_ONE_PERCENT = 90.0
_VOICE_FACTOR = 1 / 4
_AFTER_COMMIT_MS = 60.0
_CALLS = 1.3
_STREAMS_A_CORE = 200.0

_STT_MEDIAN_FACTOR = 1 / 3
_STT_P95_FACTOR = 1 / 6
_WER_POINTS = 0.2
_AUDIBLE_FACTOR = 1 / 3
_LEAST_SOUND = 0.9
"""Of theirs: two readings of a text differ by a few hundredths, a text half read by more."""

_IDLE_FACTOR = 1.2
_OVERHEAD_MEDIAN_MS = 5.0
_OVERHEAD_P95_MS = 15.0
_SWITCH_MS = 20.0
_KEEP_ALIVE_PERCENT = 1.0

_CUT_PERCENT = 3.0
_CUT_WEIGHTED_PERCENT = 1.0
_IN_TIME_PERCENT = 100 * 13 / 15
_ROOM_CPU_PERCENT = 1.5
_ROOM_MIB = 2.0
_ESPHOME_CPU_PERCENT = 0.2
_ESPHOME_MIB = 1.0
_ESPHOME_SOUND_MS = 50.0
_TOGETHER_MS = 2500.0
_BARGE_IN_MS = 150.0
_DESCRIBE_MS = 50.0
_HTTP_MS = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One mark: what it demands, what we have, and the limit."""

    DESCRIBED: ClassVar = ("reached", "text")

    mark: str
    ours: float
    limit: float
    unit: str
    at_least: bool = False
    """True where more is better."""

    @property
    def reached(self) -> bool:
        """Whether our figure keeps the limit."""
        return self.ours >= self.limit if self.at_least else self.ours <= self.limit

    @property
    def text(self) -> str:
        """`reached`, or by how much it was missed."""
        if self.reached:
            return "reached"
        gap = abs(self.ours - self.limit)
        share = f" ({100 * gap / self.limit:.0f} %)" if self.limit else ""
        return f"missed by {gap:.1f} {self.unit}".rstrip() + share


def voice_verdicts(result: VoiceResult) -> Iterator[Verdict]:
    """Yield the marks of voice to voice, those beside the rival only where it was measured."""
    ours, left = result.ours.voice_ms, result.ours.after_commit_ms
    theirs = result.theirs.voice_ms if result.theirs else None
    for name, limit in _VOICE_MS.items():
        shown = "slowest" if name == "max" else name
        if ours:
            yield Verdict(f"Voice to voice: {shown}", getattr(ours, name), limit, "ms")
        if ours and theirs:
            beside = getattr(theirs, name) * _VOICE_FACTOR
            yield Verdict(f"Voice to voice: {shown}, at most 1/4 of theirs", getattr(ours, name), beside, "ms")
    if left:
        yield Verdict("Voice: work left after the end of the command, median", left.median, _AFTER_COMMIT_MS, "ms")
    for length in result.ours.spliced:
        if (rate := result.ours.spliced_rate(length)) is not None:
            yield Verdict(f"Voice: cut too early, pauses of {length} ms", 100 * rate, _CUT_PERCENT, "%")
    if (calls := result.ours.calls_per_command) is not None:
        yield Verdict("Voice: calls of the chat model a command", calls, _CALLS, "")
    if found := result.streaming:
        if found.paused:
            as_one = 100 * sum(not one.turn.cut for one in found.paused) / len(found.paused)
            mark = "Voice: answered as one in a room that streams, pauses of 0.6 to 1.2 s"
            yield Verdict(mark, as_one, _AS_ONE_PERCENT, "%", at_least=True)
        if found.television:
            in_time = 100 * sum(one.in_time for one in found.television) / len(found.television)
            yield Verdict(
                "Voice: ended in time while a television speaks", in_time, _IN_TIME_PERCENT, "%", at_least=True
            )


def wake_verdicts(result: WakeResult) -> Iterator[Verdict]:
    """Yield the mark of the wake word."""
    yield Verdict("Wake word: streams a core", result.ours.streams_a_core, _STREAMS_A_CORE, "", at_least=True)


def hearing_verdicts(result: HearingResult) -> Iterator[Verdict]:
    """Yield the marks of hearing: never less than theirs; none without the official server beside ours."""
    both = [(figures.condition, figures.ours, figures.theirs) for figures in result.figures if figures.theirs]
    if not both:
        return
    worst, ours, theirs = max(both, key=lambda one: one[1].wer_percent - one[2].wer_percent)
    mark = f"Hearing: WER not above theirs under any condition (worst: {worst})"
    yield Verdict(mark, ours.wer_percent, theirs.wer_percent, "points")
    for what, figure in (("empty transcripts", "empty"), ("inventions", "invented")):
        our_count, their_count = (sum(getattr(one[side], figure) for one in both) for side in (1, 2))
        yield Verdict(f"Hearing: {what} not above theirs, all conditions", our_count, their_count, "")


def speaking_verdicts(result: SpeakingResult) -> Iterator[Verdict]:
    """Yield the marks of each voice; without the official server beside ours, that of clipping alone."""
    for found in result.figures:
        yield Verdict(f"Speaking, {found.voice}: clipped samples", found.ours.clipped, 0, "")
        if found.theirs:
            mark = f"Speaking, {found.voice}: WER not above theirs"
            yield Verdict(mark, found.ours.wer_percent, found.theirs.wer_percent, "points")


def stt_verdicts(result: SttResult) -> Iterator[Verdict]:
    """Yield the marks of speech to text; none without the official server beside ours."""
    where = "STT in real time" if result.realtime else "STT"
    if result.after_stop_ms.theirs is None or result.their_words is None:
        return
    ours, theirs = result.after_stop_ms.ours, result.after_stop_ms.theirs
    mark = f"{where}, after audio-stop"
    yield Verdict(f"{mark}: median at most 1/3 of theirs", ours.median, theirs.median * _STT_MEDIAN_FACTOR, "ms")
    yield Verdict(f"{mark}: p95 at most 1/6 of theirs", ours.p95, theirs.p95 * _STT_P95_FACTOR, "ms")
    yield Verdict(
        f"{where}: WER at most {_WER_POINTS} points above theirs",
        result.our_words.percent,
        result.their_words.percent + _WER_POINTS,
        "points",
    )


def tts_verdicts(result: TtsResult) -> Iterator[Verdict]:
    """Yield the marks of text to speech; none without the official server beside ours."""
    form = "streamed text" if result.streaming else "whole text"
    overall = result.overall
    yield from _median(f"TTS, {form}: first audio, median not above theirs", overall.first_audio_ms)
    first = overall.first_audio_ms
    if first.theirs:
        yield Verdict(f"TTS, {form}: first audio, p95 not above theirs", first.ours.p95, first.theirs.p95, "ms")
    label, worst = max(result.by_reply.items(), key=_slowness)
    yield from _median(
        f"TTS, {form}: first audio, median not above theirs in any length (worst: {label})", worst.first_audio_ms
    )
    audible = overall.first_audible_ms
    if audible.theirs:
        for figure in ("median", "p95"):
            limit = getattr(audible.theirs, figure) * _AUDIBLE_FACTOR
            mark = f"TTS, {form}: first audible sound, {figure} at most 1/3 of theirs"
            yield Verdict(mark, getattr(audible.ours, figure), limit, "ms")
    yield from _median(f"TTS, {form}: gaps in the sound, median not above theirs", overall.stall_ms)
    sound = overall.audio_ms
    if sound.theirs:
        least = sound.theirs.mean * _LEAST_SOUND
        mark = f"TTS, {form}: says as much, at least {_LEAST_SOUND:.0%} of their sound"
        yield Verdict(mark, sound.ours.mean, least, "ms", at_least=True)


def memory_verdicts(result: MemoryResult) -> Iterator[Verdict]:
    """Yield the marks of memory; none without the official servers beside ours."""
    for when, state in (("after first requests", result.first), ("after the work", result.worked)):
        if theirs := state.their_sum:
            for name, field in (("PSS", "pss_mib"), ("RSS", "rss_mib")):
                mark = f"Memory {when}: {name} of the daemon at most their sum"
                yield Verdict(mark, getattr(state.ours, field), getattr(theirs, field), "MiB")


def chat_verdicts(result: ChatResult) -> Iterator[Verdict]:
    """Yield the marks of the chat model, as far as it was measured."""
    for idle in result.idle:
        after, warm = idle.compared.ours, idle.compared.theirs
        assert warm is not None
        server = f", server unloads after {idle.unloads_after_seconds:g} s" if idle.unloads_after_seconds else ""
        mark = f"Chat: first word after {idle.seconds:g} s{server}, at most {_IDLE_FACTOR:g} times the warm median"
        yield Verdict(mark, after.median, warm.median * _IDLE_FACTOR, "ms")
    yield from (verdict for verdict, noise in _overhead_verdicts(result) if noise <= verdict.limit)
    if result.switch_first_word_ms and result.switch_first_word_ms.theirs:
        more_ms = result.switch_first_word_ms.ours.median - result.switch_first_word_ms.theirs.median
        yield Verdict("Chat: first word, more with a first provider that is down", more_ms, _SWITCH_MS, "ms")
    if result.keep_alive:
        yield Verdict("Chat: CPU of the keep-alive", result.keep_alive.percent, _KEEP_ALIVE_PERCENT, "% of a core")


def chat_unjudged(result: ChatResult) -> Iterator[str]:
    """Yield the marks that a measurement is too coarse for: bare calls alone differ by more than is allowed."""
    for verdict, noise in _overhead_verdicts(result):
        if noise > verdict.limit:
            figures = f"ours {verdict.ours:.1f}, limit {verdict.limit:g}, bare calls among themselves {noise:.1f}"
            yield f"{verdict.mark} ({figures} {verdict.unit})"


def _overhead_verdicts(result: ChatResult) -> Iterator[tuple[Verdict, float]]:
    """Yield what the daemon may add to a bare call, with the same figure of bare calls alone."""
    for overhead in result.overhead:
        for figure, more, noise in (
            ("first word", overhead.first_word_more_ms, overhead.first_word_noise_ms),
            ("whole answer", overhead.complete_more_ms, overhead.complete_noise_ms),
        ):
            mark = f"Chat, words of {overhead.words}: {figure} beside a bare call"
            yield Verdict(f"{mark}, p50", more.median, _OVERHEAD_MEDIAN_MS, "ms"), abs(noise.median)
            yield Verdict(f"{mark}, p95", more.p95, _OVERHEAD_P95_MS, "ms"), noise.p95


def endpoint_verdicts(result: EndpointResult) -> Iterator[Verdict]:
    """Yield the marks of the end of a command, at the default settings of both sides."""
    ours, theirs = (_default_of(result.figures, finder) for finder in (OURS, microvad.NAME))
    if ours is None:
        return
    short = ((300,), (500,))
    mark = f"Endpoint: cut too early, no pause or one of 300 or 500 ms, at most {_CUT_PERCENT:g} %"
    yield Verdict(mark, ours.cut_percent((), *short), _CUT_PERCENT, "%")
    weighted = "Endpoint: cut, weighted by the pauses of people"
    yield Verdict(weighted, ours.cut_weighted_percent(), _CUT_WEIGHTED_PERCENT, "%")
    if repaired := _default_of(result.figures, OURS, repairs=True):
        yield Verdict(f"{weighted}, and not repaired", repaired.cut_weighted_percent(), _CUT_WEIGHTED_PERCENT, "%")
    lost = ours.lost_ms(())
    if theirs and lost and (their_lost := theirs.lost_ms(())):
        yield Verdict("Endpoint: time lost, median below Home Assistant's", lost.median, their_lost.median, "ms")
    if noisy := _default_of(result.television, OURS):
        mark = "Endpoint: ended in time while a television speaks on"
        yield Verdict(mark, 100 * noisy.in_time / len(noisy.found), _IN_TIME_PERCENT, "%", at_least=True)


def _default_of(figures: Sequence[EndpointFigures], finder: str, *, repairs: bool = False) -> EndpointFigures | None:
    those = (found for found in figures if found.default and found.finder == finder and found.repairs == repairs)
    return next(those, None)


def rooms_verdicts(result: RoomsResult) -> Iterator[Verdict]:
    """Yield the marks of the rooms, as far as they were measured."""
    most = max(result.rest, key=lambda rest: rest.rooms, default=None)
    if most and (cost := result.cost_of_a_room(most)):
        yield Verdict(f"Rooms: CPU a room, {most.rooms} streaming", cost[0], _ROOM_CPU_PERCENT, "% of a core")
        yield Verdict(f"Rooms: memory a room, {most.rooms} streaming", cost[1], _ROOM_MIB, "MiB")
    least = max(result.esphome_rest, key=lambda rest: rest.rooms, default=None)
    if least and (cost := result.cost_of_a_room(least)):
        yield Verdict(
            f"Rooms: CPU an ESPHome room at rest, of {least.rooms}", cost[0], _ESPHOME_CPU_PERCENT, "% of a core"
        )
        yield Verdict(f"Rooms: memory an ESPHome room at rest, of {least.rooms}", cost[1], _ESPHOME_MIB, "MiB")
    if result.esphome:
        mark = "Rooms: first clause to its first byte at an ESPHome device, median"
        yield Verdict(mark, result.esphome.after_clause_ms.median, _ESPHOME_SOUND_MS, "ms")
        mark = f"Rooms: question to sound, {result.esphome.together} ESPHome rooms at once, median"
        yield Verdict(mark, result.esphome.together_ms.median, _TOGETHER_MS, "ms")
    if result.barge_in:
        to_silence = result.barge_in.after_decision_ms
        yield Verdict("Rooms: wake word to silence, p95", to_silence.p95, _BARGE_IN_MS, "ms")
    if result.describe_ms and result.streaming:
        mark = f"Rooms: describe while {result.streaming} stream, p95"
        yield Verdict(mark, result.describe_ms.ours.p95, _DESCRIBE_MS, "ms")


def http_verdicts(result: HttpResult) -> Iterator[Verdict]:
    """Yield the marks of HTTP."""
    yield Verdict("HTTP: /chat over the run's own time, median at most", result.chat_overhead_ms.median, _HTTP_MS, "ms")
    first = result.first_token_overhead_ms
    yield Verdict("HTTP: first word over the model's own time, median at most", first.median, _HTTP_MS, "ms")
    busy = result.describe_talking_ms
    yield Verdict("HTTP: describe while others talk over WebSockets, p95", busy.p95, _DESCRIBE_MS, "ms")


def _median(mark: str, figure: Compared) -> Iterator[Verdict]:
    if figure.theirs:
        yield Verdict(mark, figure.ours.median, figure.theirs.median, "ms")


def _slowness(reply: tuple[str, TtsFigures]) -> float:
    return reply[1].first_audio_ms.median_ratio or 0.0
