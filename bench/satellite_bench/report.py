"""A whole run as one JSON object or as Markdown."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from satellite_bench import marks, microvad, part_tables, rivals, voice_picture
from satellite_bench.chat_run import ChatResult
from satellite_bench.endpoint import EndpointResult
from satellite_bench.hearing import HearingResult
from satellite_bench.http import HttpResult
from satellite_bench.machine import Machine
from satellite_bench.marks import Verdict
from satellite_bench.memory import MemoryResult
from satellite_bench.rooms import RoomsResult
from satellite_bench.speaking import SpeakingResult
from satellite_bench.stats import as_json
from satellite_bench.stt import SttResult
from satellite_bench.tables import Table
from satellite_bench.tts import TtsResult
from satellite_bench.voice import VoiceResult
from satellite_bench.wake import WakeResult

_RIVAL = f"{rivals.STT} and {rivals.TTS}, driven as {microvad.NAME} drives them"


@dataclass(slots=True)
class Report:
    """What one run found."""

    began: str
    machine: Machine
    threads: int
    """CPU threads that every engine was given."""

    load_at_start: tuple[float, float, float]
    our_versions: dict[str, str]
    their_versions: dict[str, str]
    load_at_end: tuple[float, float, float] = (0.0, 0.0, 0.0)
    voice: VoiceResult | None = None
    wake: WakeResult | None = None
    hearing: HearingResult | None = None
    speaking: SpeakingResult | None = None
    stt: list[SttResult] = field(default_factory=list)
    tts: list[TtsResult] = field(default_factory=list)
    memory: MemoryResult | None = None
    chat: ChatResult | None = None
    endpoint: EndpointResult | None = None
    rooms: RoomsResult | None = None
    http: HttpResult | None = None
    problems: list[str] = field(default_factory=list)
    """What could not be measured at all."""

    @property
    def failures(self) -> list[str]:
        """Everything that went wrong, single requests too."""
        of_stt = [failure for stt in self.stt for failure in stt.failures]
        of_tts = [failure for tts in self.tts for failure in tts.failures]
        of_chat = self.chat.failures if self.chat else ()
        of_voice = self.voice.failures if self.voice else ()
        of_hearing = self.hearing.failures if self.hearing else ()
        of_speaking = self.speaking.failures if self.speaking else ()
        of_rooms = self.rooms.failures if self.rooms else ()
        return [*self.problems, *of_voice, *of_hearing, *of_speaking, *of_stt, *of_tts, *of_chat, *of_rooms]

    @property
    def verdicts(self) -> list[Verdict]:
        """Every mark that could be judged."""
        found = list(marks.voice_verdicts(self.voice)) if self.voice else []
        found += marks.hearing_verdicts(self.hearing) if self.hearing else ()
        found += marks.speaking_verdicts(self.speaking) if self.speaking else ()
        found += [verdict for stt in self.stt for verdict in marks.stt_verdicts(stt)]
        found += [verdict for tts in self.tts for verdict in marks.tts_verdicts(tts)]
        found += marks.wake_verdicts(self.wake) if self.wake else ()
        found += marks.memory_verdicts(self.memory) if self.memory else ()
        found += marks.chat_verdicts(self.chat) if self.chat else ()
        found += marks.endpoint_verdicts(self.endpoint) if self.endpoint else ()
        found += marks.rooms_verdicts(self.rooms) if self.rooms else ()
        found += marks.http_verdicts(self.http) if self.http else ()
        return found

    @property
    def unjudged(self) -> list[str]:
        """Marks that the measurement is too coarse for."""
        return list(marks.chat_unjudged(self.chat)) if self.chat else []

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        parts = ("voice", "wake", "hearing", "speaking", "stt", "tts", "memory", "chat", "endpoint", "rooms", "http")
        shown = (*parts, "verdicts", "unjudged", "failures")
        return self._circumstances() | {name: as_json(getattr(self, name)) for name in shown}

    def described_voice(self) -> dict[str, Any]:
        """Return voice to voice alone for JSON: both sides, and the machine with all that was around."""
        voice = self.voice.described() if self.voice else {"satellite": None, "rival": None}
        circumstances = self._circumstances()
        del circumstances["machine"]
        machine = asdict(self.machine) | circumstances
        return voice | {"machine": machine, "verdicts": as_json(self.verdicts), "failures": self.failures}

    def _circumstances(self) -> dict[str, object]:
        loads = {"start": self.load_at_start, "end": self.load_at_end}
        return {
            "began": self.began,
            "machine": as_json(self.machine),
            "threads": self.threads,
            "load_average": as_json(loads),
            "versions": {"ours": self.our_versions, "theirs": self.their_versions},
        }


def _loads(load: Iterable[float]) -> list[float]:
    return [round(value, 2) for value in load]


def markdown(report: Report, *, mismatches: bool = False) -> str:
    """Return the run as Markdown; with `mismatches` also every clip that either side transcribed wrongly."""
    lines = [*_head(report)]
    if report.verdicts:
        rows = [(v.mark, f"{v.ours:.1f}", f"{v.limit:.1f}", v.unit, v.text) for v in report.verdicts]
        lines += ["", "## Marks", "", *Table("", ("mark", "ours", "limit", "unit", "verdict"), rows).markdown()]
    if report.unjudged:
        lines += ["", "Too much noise to judge:", "", *(f"- {mark}" for mark in report.unjudged)]
    for title, about, tables in _sections(report, mismatches=mismatches):
        lines += ["", f"## {title}", *(["", about] if about else [])]
        for table in tables:
            lines += ["", *table.markdown()]
        if title == _VOICE and report.voice and (drawn := voice_picture.waterfall(report.voice)):
            lines += ["", "The command in the middle:", "", "```", *drawn, "```"]
    if report.failures:
        lines += ["", "## Could not be measured", "", *(f"- {failure}" for failure in report.failures)]
    return "\n".join(lines) + "\n"


_VOICE = "Voice to voice"
_HTTP = "Clients in another process on the same machine, each with a connection that is kept."
_WAKE = "One process and one core an engine, CPU time of the whole process."
_ROOMS = "Satellites that stream all the time, in another process on the same machine."


def _sections(report: Report, *, mismatches: bool) -> Iterator[tuple[str, str, Iterable[Table]]]:
    """Yield the title, what was measured, and the tables of each part."""
    if voice := report.voice:
        rival = f" rival: {_RIVAL}." if voice.theirs else ""
        about = f"Corpus: {voice.corpus}. satellite: a room of the daemon's.{rival}"
        yield _VOICE, about, part_tables.voice_tables(voice)
    if report.wake:
        yield "Wake word", _WAKE, part_tables.wake_tables(report.wake)
    if found := report.hearing:
        about = f"Corpus: {found.corpus}; {found.spoken} clips, and {found.sounds} sounds without speech."
        yield "Hearing", about, part_tables.hearing_tables(found, mismatches=mismatches)
    if report.speaking:
        yield "Speaking", "", part_tables.speaking_tables(report.speaking, mismatches=mismatches)
    for stt in report.stt:
        about = f"Corpus: {stt.corpus}; {stt.clips} clips, {stt.audio_seconds:.0f} s."
        tables = [*part_tables.stt_tables(stt), *([part_tables.mismatch_table(stt.mismatches)] if mismatches else [])]
        yield f"Speech to text, audio {'in real time' if stt.realtime else 'at once'}", about, tables
    for tts in report.tts:
        yield f"Text to speech, {'streamed' if tts.streaming else 'whole'} text", "", part_tables.tts_tables(tts)
    if report.memory:
        yield "Memory", "", part_tables.memory_tables(report.memory)
    if report.chat:
        yield "Chat", f"Server: {report.chat.server}.", part_tables.chat_tables(report.chat)
    if ends := report.endpoint:
        about = f"Corpus: {ends.corpus}; {ends.clips} clips, with pauses spliced in between two words."
        yield "Endpoint", about, part_tables.endpoint_tables(ends)
    if report.rooms:
        yield "Rooms", _ROOMS, part_tables.rooms_tables(report.rooms)
    if report.http:
        yield "HTTP", _HTTP, part_tables.http_tables(report.http)


def _head(report: Report) -> Iterator[str]:
    on = report.machine
    start, end = _loads(report.load_at_start), _loads(report.load_at_end)
    yield f"# satellite bench, {report.began}"
    yield ""
    yield f"- Machine: {on.processor}, {on.cores} cores, {on.memory_gib:.0f} GiB, Python {on.python}"
    yield f"- Load average (1, 5, 15 min): {start} at the start, {end} at the end"
    yield f"- Threads of each engine: {report.threads}; our Whisper takes as many of them as are fastest here"
    yield "- Ours: " + ", ".join(f"{name} {version}" for name, version in report.our_versions.items())
    if report.their_versions:
        yield "- Theirs: " + ", ".join(f"{name} {version}" for name, version in report.their_versions.items())
