"""A whole run as one JSON object or as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from satellite.audio.word_errors import WordErrors
from satellite_bench import chat_report, endpoint_report, http_report, marks, rivals, rooms_report, voice_report
from satellite_bench.chat_run import ChatResult
from satellite_bench.endpoint import EndpointResult
from satellite_bench.http import HttpResult
from satellite_bench.machine import Machine
from satellite_bench.marks import Verdict
from satellite_bench.memory import Memory, MemoryResult
from satellite_bench.rooms import RoomsResult
from satellite_bench.stats import Compared, Summary
from satellite_bench.stt import SttResult
from satellite_bench.tts import TtsFigures, TtsResult
from satellite_bench.voice import VoiceResult
from satellite_bench.wake import WakeResult

Row = Sequence[str]


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
        of_rooms = self.rooms.problems if self.rooms else ()
        return [*self.problems, *of_voice, *of_stt, *of_tts, *of_chat, *of_rooms]

    @property
    def verdicts(self) -> list[Verdict]:
        """Every mark that could be judged."""
        found = list(marks.voice_verdicts(self.voice)) if self.voice else []
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
        return {
            **self._circumstances(),
            "voice": self.voice.described() if self.voice else None,
            "wake": self.wake.described() if self.wake else None,
            "stt": [result.described() for result in self.stt],
            "tts": [result.described() for result in self.tts],
            "memory": self.memory.described() if self.memory else None,
            "chat": self.chat.described() if self.chat else None,
            "endpoint": self.endpoint.described() if self.endpoint else None,
            "rooms": self.rooms.described() if self.rooms else None,
            "http": self.http.described() if self.http else None,
            "verdicts": [verdict.described() for verdict in self.verdicts],
            "unjudged": self.unjudged,
            "failures": self.failures,
        }

    def described_voice(self) -> dict[str, Any]:
        """Return voice to voice alone for JSON: both sides, and the machine with all that was around."""
        voice = self.voice.described() if self.voice else {"satellite": None, "rival": None}
        circumstances = self._circumstances()
        machine = circumstances.pop("machine") | circumstances
        verdicts = [verdict.described() for verdict in self.verdicts]
        return voice | {"machine": machine, "verdicts": verdicts, "failures": self.failures}

    def _circumstances(self) -> dict[str, Any]:
        return {
            "began": self.began,
            "machine": self.machine.described(),
            "threads": self.threads,
            "load_average": {"start": _loads(self.load_at_start), "end": _loads(self.load_at_end)},
            "versions": {"ours": self.our_versions, "theirs": self.their_versions},
        }


def _loads(load: Iterable[float]) -> list[float]:
    return [round(value, 2) for value in load]


def markdown(report: Report, *, mismatches: bool = False) -> str:
    """Return the run as Markdown; with `mismatches` also every clip that somebody understood wrongly."""
    lines = [*_head(report)]
    if report.verdicts:
        lines += ["", "## Marks", "", *_verdict_table(report.verdicts)]
    if report.unjudged:
        lines += ["", "Too much noise to judge:", "", *(f"- {mark}" for mark in report.unjudged)]
    if report.voice:
        lines += ["", *_voice_section(report.voice)]
    if report.wake:
        lines += ["", *_section("Wake word", _WAKE, voice_report.wake_tables(report.wake))]
    for stt in report.stt:
        lines += ["", *_stt_section(stt)]
        if mismatches:
            lines += ["", *_mismatch_table(stt)]
    for tts in report.tts:
        lines += ["", *_tts_section(tts)]
    if report.memory:
        lines += ["", "## Memory", "", *_memory_table(report.memory)]
    if report.chat:
        lines += ["", *_section("Chat", f"Server: {report.chat.server}.", chat_report.tables(report.chat))]
    if report.endpoint:
        found = report.endpoint
        corpus = f"Corpus: {found.corpus}; {found.clips} clips, with pauses spliced in between two words."
        lines += ["", *_section("Endpoint", corpus, endpoint_report.tables(found))]
    if report.rooms:
        lines += ["", *_section("Rooms", _ROOMS, rooms_report.tables(report.rooms))]
    if report.http:
        lines += ["", *_section("HTTP", _HTTP, http_report.tables(report.http))]
    if report.failures:
        lines += ["", "## Could not be measured", "", *(f"- {failure}" for failure in report.failures)]
    return "\n".join(lines) + "\n"


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


def _verdict_table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    rows = [(v.mark, f"{v.ours:.1f}", f"{v.limit:.1f}", v.unit, v.text) for v in verdicts]
    return table(("mark", "ours", "limit", "unit", "verdict"), rows)


def _voice_section(voice: VoiceResult) -> Iterator[str]:
    words = f"Corpus: {voice.corpus}. satellite: a room of the daemon's."
    if voice.theirs:
        words += f" rival: {voice_report.RIVAL}."
    yield from _section("Voice to voice", words, voice_report.tables(voice))
    if drawn := voice_report.waterfall(voice):
        yield from ("", "The command in the middle:", "", "```", *drawn, "```")


def _stt_section(stt: SttResult) -> Iterator[str]:
    pace = "audio in real time" if stt.realtime else "audio at once"
    yield f"## Speech to text, {pace}"
    yield ""
    yield f"Corpus: {stt.corpus}; {stt.clips} clips, {stt.audio_seconds:.0f} s."
    yield ""
    rows: list[Row] = []
    if not stt.realtime:
        rows += _compared_rows("total, ms", stt.total_ms, rivals.STT)
    rows += _compared_rows("after audio-stop, ms", stt.after_stop_ms, rivals.STT)
    yield from table(("figure", "server", *_COLUMNS), rows)
    yield ""
    words = [("satellite", stt.our_words)] + ([(rivals.STT, stt.their_words)] if stt.their_words else [])
    yield from table(("server", "WER", "errors", "words"), [_word_row(name, errors) for name, errors in words])


def _word_row(name: str, errors: WordErrors) -> Row:
    return name, f"{errors.percent:.2f} %", str(errors.errors), str(errors.words)


def _mismatch_table(stt: SttResult) -> Iterator[str]:
    if stt.their_words is None:
        return table(("said", "satellite"), [(m.said, m.ours) for m in stt.mismatches])
    return table(("said", "satellite", rivals.STT), [(m.said, m.ours, m.theirs or "") for m in stt.mismatches])


def _tts_section(tts: TtsResult) -> Iterator[str]:
    yield f"## Text to speech, {'streamed' if tts.streaming else 'whole'} text"
    yield ""
    overall = tts.overall
    rows = [
        *_compared_rows("first audio, ms", overall.first_audio_ms, rivals.TTS),
        *_compared_rows("first audible sound, ms", overall.first_audible_ms, rivals.TTS),
        *_compared_rows("complete, ms", overall.complete_ms, rivals.TTS),
        *_compared_rows("gaps in the sound, ms", overall.stall_ms, rivals.TTS),
    ]
    yield from table(("figure", "server", *_COLUMNS), rows)
    yield ""
    heads = ("reply of about", "server", "first audio, ms", "p95", "first audible, ms", "sound, s")
    yield from table(heads, [row for label, figures in tts.by_reply.items() for row in _reply_rows(label, figures)])


def _reply_rows(label: str, figures: TtsFigures) -> Iterator[Row]:
    """Yield what one reply took on both sides: medians, and the 95th percentile of the first audio."""
    for name, side in (("satellite", "ours"), (rivals.TTS, "theirs")):
        first: Summary | None = getattr(figures.first_audio_ms, side)
        audible: Summary | None = getattr(figures.first_audible_ms, side)
        sound: Summary | None = getattr(figures.audio_ms, side)
        if first and audible and sound:
            times = f"{first.median:.0f}", f"{first.p95:.0f}", f"{audible.median:.0f}"
            yield label, name, *times, f"{sound.median / 1000:.2f}"


_COLUMNS = ("n", "median", "p95", "max", "mean")


def _compared_rows(figure: str, compared: Compared, rival: str) -> list[Row]:
    rows: list[Row] = [(figure, "satellite", *_cells(compared.ours))]
    if compared.theirs:
        rows.append((figure, rival, *_cells(compared.theirs)))
    if compared.median_ratio is not None and compared.p95_ratio is not None:
        rows.append((figure, "ours / theirs", "", f"{compared.median_ratio:.0%}", f"{compared.p95_ratio:.0%}", "", ""))
    return rows


def _cells(summary: Summary) -> Row:
    return str(summary.n), *(f"{value:.0f}" for value in (summary.median, summary.p95, summary.max, summary.mean))


def _memory_table(memory: MemoryResult) -> Iterator[str]:
    first, worked = memory.first, memory.worked
    rows = [_memory_row("satellite, everything", first.ours, worked.ours)]
    rows.append(_memory_row("satellite, without its chat model", None, memory.ours_without_chat))
    rows += [_memory_row(name, first.theirs[name], worked.theirs[name]) for name in worked.theirs]
    if first.their_sum and worked.their_sum:
        rows.append(_memory_row("theirs together", first.their_sum, worked.their_sum))
    heads = ("process", "PSS at first, MiB", "RSS", "PSS after the work, MiB", "RSS", "highest RSS")
    return table(heads, rows)


def _memory_row(name: str, first: Memory | None, worked: Memory) -> Row:
    at_first = (f"{first.pss:.0f}", f"{first.rss:.0f}") if first else ("", "")
    return name, *at_first, f"{worked.pss:.0f}", f"{worked.rss:.0f}", f"{worked.peak:.0f}"


_HTTP = "Clients in another process on the same machine, each with a connection that is kept."
_WAKE = "One process and one core an engine, CPU time of the whole process."
_ROOMS = "Satellites that stream all the time, in another process on the same machine."


def _section(title: str, words: str, tables: Iterable[chat_report.Table]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield words
    for shown in tables:
        yield from ("", f"### {shown.title}", "", *table(shown.heads, shown.rows))


def table(heads: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a Markdown table whose columns line up."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in (heads, ["-" * width for width in widths], *cells):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
