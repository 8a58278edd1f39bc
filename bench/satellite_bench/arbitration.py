"""`python -m satellite_bench.arbitration`: which room should answer, by the daemon's own arbiter in simulated homes.

Every rule gets the same claims: when the wake word engine detects the call in each room's sound, how late that arrives,
and how well the room hears. The command is then transcribed as the room that answers hears it.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from satellite.audio.corpus import read_corpus
from satellite.audio.pcm import BYTES_PER_SECOND, RATE, AudioFormat, Converter, to_float
from satellite.audio.word_errors import WordErrors, total, word_errors
from satellite.config.settings import WakeSettings
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models import catalogue
from satellite.models.catalogue import WAKE_WORDS, Kind
from satellite.models.store import Store
from satellite.rooms.arbitration import Arbiter, Loudness
from satellite_bench.arbitration_scenes import Floats, Scene, Utterance, Voice, scene
from satellite_bench.splicing import WhisperWords
from satellite_bench.synthetic import PHRASES, pink

_WORD = "okay_nabu"
_CALL = "Okay nabu."
_FRAME_BYTES = BYTES_PER_SECOND // 1000 * 80
_SEED = 20_26
_JITTER_SECONDS = 0.03
_PAUSES_SECONDS = (0.3, 0.9)
"""Between the wake word and the command, from and to."""

_CALL_SECONDS = 2.5
"""Within which a call has been detected in every room."""

_AFTER_SECONDS = 0.6
"""Of sound after the command, which its end takes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the arbiter: within `window` a better room takes over; for `stand_down` all others are refused."""

    name: str
    window: float
    stand_down: float


RULES = (
    Rule("best signal, 0.3 s", 0.3, 0.0),
    Rule("first wins, others stand down for 0.7 s", 1e-6, 0.7),
    Rule("best signal, 0.3 s; others stand down for 0.7 s", 0.3, 0.7),
    Rule("best signal, 0.5 s; others stand down for 0.7 s", 0.5, 0.7),
    Rule("best signal, 0.7 s", 0.7, 0.7),
    Rule("best signal, 0.3 s; others stand down for 1.5 s", 0.3, 1.5),
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A room has detected the wake word."""

    room: int
    at_seconds: float
    quality_db: float
    heard_from_seconds: float
    """Where in the room's sound the command begins."""


@dataclass(slots=True)
class Figures:
    """What one rule did in all scenes with as many voices."""

    rule: str
    calls: int = 0
    wrong_room: int = 0
    """Calls that the caller's room did not answer, but another."""

    missed: int = 0
    """Calls that no room answered, though the caller's had heard it."""

    double: int = 0
    """Scenes in which more rooms answered than people had called."""

    handed_over: int = 0
    late_ms: list[float] = field(default_factory=list)
    """From the first claim of a call to that of the room that answers."""

    words: list[WordErrors] = field(default_factory=list)

    def described(self) -> dict[str, object]:
        """Return it for programs."""
        late = np.array(self.late_ms or [0.0])
        known = asdict(self) | {"wer_percent": round(total(self.words).percent, 1)}
        known |= {"late_mean_ms": round(float(late.mean())), "late_p95_ms": round(float(np.quantile(late, 0.95)))}
        return {key: value for key, value in known.items() if key not in ("late_ms", "words")}


def decided(rule: Rule, claims: Sequence[Claim]) -> tuple[list[Claim], int]:
    """Return the claims that are answered to the end, and how often one was handed over."""
    now = [0.0]
    arbiter = Arbiter(rule.window, stand_down_seconds=rule.stand_down, now=lambda: now[0])
    answered: list[Claim] = []
    lost: list[Claim] = []
    for claim in sorted(claims, key=lambda claim: claim.at_seconds):
        now[0] = claim.at_seconds
        if arbiter.claim(str(claim.room), _WORD, claim.quality_db, lambda claim=claim: lost.append(claim)):  # type: ignore[misc]
            answered.append(claim)
    return [claim for claim in answered if claim not in lost], len(lost)


async def claims_of(engine: OpenWakeWordEngine, home: Scene, chance: np.random.Generator) -> list[Claim]:
    """Return the detections in every room, with how well it hears, as a conversation finds both."""
    claims: list[Claim] = []
    for room, pcm in enumerate(home.heard):
        stream, loudness = await engine.stream((_WORD,)), Loudness()
        for end in range(_FRAME_BYTES, len(pcm), _FRAME_BYTES):
            frame = pcm[end - _FRAME_BYTES : end]
            loudness.feed(frame)
            if await stream.feed(frame):
                at = end / BYTES_PER_SECOND
                arrives = at + home.delays_seconds[room] + float(chance.exponential(_JITTER_SECONDS))
                claims.append(Claim(room, arrives, loudness.speech_to_noise_db, at))
    return claims


class Measuring:
    """Applies all rules to scene after scene."""

    def __init__(self, whisper: WhisperWords) -> None:
        self._whisper = whisper
        self._texts: dict[tuple[int, Claim], str] = {}
        self.unheard = 0
        """Scenes in which a caller's own room did not detect the call; they count for no rule."""

    def add(self, number: int, home: Scene, claims: Sequence[Claim], figures: Sequence[Figures]) -> None:
        """Add what every rule does with the scene `number` to its figures."""
        calls = [(voice, [claim for claim in claims if _is_of(claim, voice)]) for voice in home.voices]
        if any(all(claim.room != voice.room for claim in found) for voice, found in calls):
            self.unheard += 1
            return
        for rule, one in zip(RULES, figures, strict=True):
            answered, handed_over = decided(rule, claims)
            one.calls += len(calls)
            one.handed_over += handed_over
            one.double += len(answered) > len(calls)
            for voice, found in calls:
                chosen = _chosen(voice, home, [claim for claim in answered if claim in found])
                one.wrong_room += chosen is not None and chosen.room != voice.room
                one.missed += chosen is None
                text = ""
                if chosen is not None:
                    one.late_ms.append(1000 * (chosen.at_seconds - min(claim.at_seconds for claim in found)))
                    text = self._heard(number, home, voice, chosen)
                one.words.append(word_errors(voice.utterance.words, text))

    def _heard(self, number: int, home: Scene, voice: Voice, claim: Claim) -> str:
        """Return the command as the room that answers hears it, from its detection on."""
        if (number, claim) not in self._texts:
            end_seconds = voice.at_seconds + len(voice.utterance.sound) / RATE + _AFTER_SECONDS
            begin, end = (2 * int(seconds * RATE) for seconds in (claim.heard_from_seconds, end_seconds))
            self._texts[number, claim] = self._whisper.text(home.heard[claim.room][begin:end], "en")
        return self._texts[number, claim]


def _is_of(claim: Claim, voice: Voice) -> bool:
    """Return whether a claim is that of a voice's call: the wake word lasts about a second."""
    return -0.2 < claim.heard_from_seconds - voice.at_seconds < _CALL_SECONDS


def _chosen(voice: Voice, home: Scene, answered: Sequence[Claim]) -> Claim | None:
    """Return the claim by which a call is answered: the caller's room, else one in which nobody else has called."""
    others = {other.room for other in home.voices if other is not voice}
    return next(
        (claim for claim in answered if claim.room == voice.room),
        next((claim for claim in answered if claim.room not in others), None),
    )


def spoken(voice: Path, chance: np.random.Generator) -> list[Utterance]:
    """Return commands after the wake word, each in a pace of its own."""
    import onnxruntime
    from piper import PiperVoice, SynthesisConfig

    onnxruntime.set_seed(_SEED)  # of the variation in the voice, which no generator of ours draws
    piper = PiperVoice.load(voice)

    def said(text: str, pace: float) -> Floats:
        converter = Converter(AudioFormat(rate=piper.config.sample_rate))
        manner = SynthesisConfig(length_scale=pace)
        pcm = b"".join(chunk.audio_int16_bytes for chunk in piper.synthesize(text, manner))
        return to_float(converter.convert(pcm) + converter.flush())

    utterances = []
    for phrase in PHRASES[::5]:
        pace = chance.uniform(0.9, 1.2)
        gap = np.zeros(int(chance.uniform(*_PAUSES_SECONDS) * RATE))
        utterances.append(Utterance(np.concatenate([said(_CALL, pace), gap, said(phrase, pace)]), phrase))
    return utterances


def talk(corpus: Path | None, chance: np.random.Generator) -> Floats:
    """Return a minute of what is heard from televisions: recordings of a corpus, else noise."""
    if corpus is None:
        return pink(60 * RATE, chance)
    clips = [to_float(clip.pcm) for clip in read_corpus(corpus, corpus.name).clips]
    return np.concatenate(clips)[: 60 * RATE]


async def measure(store: Store, corpus: Path | None, scenes: int) -> dict[str, object]:
    """Measure `scenes` calls of one person, and half as many of two at once."""
    chance = np.random.default_rng(_SEED)
    voice = next(store.path(catalogue.find(Kind.TTS, "en_US-joe-medium")).glob("*.onnx"))
    utterances, background = spoken(voice, chance), talk(corpus, chance)
    measuring = Measuring(WhisperWords(store.path(catalogue.find(Kind.STT, "tiny.en")), 1))
    result: dict[str, object] = {}
    worker = Worker(Stage.WAKE, queue_size=8)
    try:
        models = store.path(catalogue.find(Kind.WAKE, "openwakeword"))
        engine = OpenWakeWordEngine(WakeSettings(), models, WAKE_WORDS["openwakeword"], worker)
        await worker.run(engine.load)
        for voices, count in ((1, scenes), (2, scenes // 2)):
            figures = [Figures(rule.name) for rule in RULES]
            for number in range(count):
                home = scene(chance, utterances, background, voices=voices)
                measuring.add(1000 * voices + number, home, await claims_of(engine, home, chance), figures)
                print(f"{voices} voices: {number + 1} of {count}", end="\r", file=sys.stderr)
            result[f"voices_{voices}"] = [one.described() for one in figures]
    finally:
        worker.close()
    return result | {"unheard": measuring.unheard}


def lines(result: dict[str, object]) -> Iterator[str]:
    """Yield the result as tables."""
    counts = ("calls", "wrong_room", "missed", "double", "handed_over")
    columns = ("rule", *counts, "wer_percent", "late_mean_ms", "late_p95_ms")
    for key, rows in result.items():
        if isinstance(rows, list):
            yield f"\n{key}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
            yield from (f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows)
        else:
            yield f"\n{key}: {rows}"


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m satellite_bench.arbitration", description=__doc__)
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="recordings that play in the background")
    parser.add_argument("--scenes", type=int, default=44, metavar="N", help="calls of one person (default: 44)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = asyncio.run(measure(Store(), args.corpus, args.scenes))
    print(json.dumps(result) if args.json else "\n".join(lines(result)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
