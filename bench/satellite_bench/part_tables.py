"""The results of every part in tables."""

from collections.abc import Iterator, Sequence

from satellite_bench import rivals
from satellite_bench.chat import AnswerFigures, IdleFigures
from satellite_bench.chat_bare import Overhead
from satellite_bench.chat_cost import KeepAliveCost
from satellite_bench.chat_run import ChatResult
from satellite_bench.endpoint import BACKGROUND_DB, IN_TIME_MS, EndpointFigures, EndpointResult, kinds_of, label
from satellite_bench.hearing import Heard, HearingResult
from satellite_bench.http import HttpResult
from satellite_bench.memory import Memory, MemoryResult
from satellite_bench.rooms import EsphomeFigures, RestFigures, RoomsResult
from satellite_bench.speaking import Said, SpeakingResult
from satellite_bench.stats import Compared, Summary
from satellite_bench.stt import Mismatch, SttResult
from satellite_bench.tables import COLUMNS, Row, Table, cells, compared_rows
from satellite_bench.tts import TtsFigures, TtsResult
from satellite_bench.voice import OURS, StreamingFigures, VoiceFigures, VoiceResult
from satellite_bench.wake import NAME, WakeFigures, WakeResult


def voice_tables(result: VoiceResult) -> Iterator[Table]:
    """Yield the times of both sides, then what they got wrong."""
    heads: Row = ("from the last of the speech, ms", "", "n", "median", "p95", "max", "mean")
    rows = [row for name, figures in result.sides for row in _voice_times(name, figures)]
    yield Table("Voice to voice", heads, rows)
    lengths = list(result.ours.spliced)
    heads = ("", "no pause", *(f"pause: {length} ms" for length in lengths), "calls of the chat model a command")
    yield Table("Cut too early", heads, [_cut_turns(name, figures) for name, figures in result.sides])
    if streaming := result.streaming:
        yield Table("In a room that streams", ("", "", "n", "median", "p95", "max", "mean"), list(_streamed(streaming)))


def _voice_times(name: str, figures: VoiceFigures) -> Iterator[Row]:
    shown = {
        "end of the command": figures.stage_ms("endpoint"),
        "transcript": figures.stage_ms("transcript"),
        "**first sound**": figures.voice_ms,
        "(work left after the end of the command)": figures.after_commit_ms,
    }
    for what, summary in shown.items():
        if summary:
            yield what, name, *cells(summary)


def _streamed(found: StreamingFigures) -> Iterator[Row]:
    yield from _voice_times(OURS, found.times)
    counts = {
        "answered as one, after a pause of 0.6 to 1.2 s": (sum(not one.turn.cut for one in found.paused), found.paused),
        "… an answer begun and silenced before": (sum(one.stuttered for one in found.paused), found.paused),
        "ended in time while a television speaks on": (sum(one.in_time for one in found.television), found.television),
    }
    for what, (count, turns) in counts.items():
        yield what, OURS, f"{count} of {len(turns)}", "", "", "", ""


def _cut_turns(name: str, figures: VoiceFigures) -> Row:
    plain = [turn.cut for turn in figures.turns]
    calls = figures.calls_per_command
    shares = [_share(cut) for cut in (plain, *figures.spliced.values())]
    return name, *shares, "" if calls is None else f"{calls:.2f}"


def _share(cut: Sequence[bool]) -> str:
    return f"{sum(cut)} of {len(cut)}" + (f" ({100 * sum(cut) / len(cut):.1f} %)" if any(cut) else "")


def wake_tables(result: WakeResult) -> Iterator[Table]:
    """Yield what listening for the wake word costs."""
    heads = ("engine", "streams a core", "CPU, ms a frame of 80 ms")
    sides: list[tuple[str, WakeFigures | None]] = [(OURS, result.ours), (NAME, result.theirs)]
    rows = [(name, f"{found.streams_a_core:.0f}", f"{found.cpu_ms_a_frame:.2f}") for name, found in sides if found]
    yield Table("Okay nabu, over and over", heads, rows)


def stt_tables(result: SttResult) -> Iterator[Table]:
    """Yield the times and the errors of both sides."""
    rows: list[Row] = []
    if not result.realtime:
        rows += compared_rows("total, ms", result.total_ms, rivals.STT)
    rows += compared_rows("after audio-stop, ms", result.after_stop_ms, rivals.STT)
    yield Table("", ("figure", "server", *COLUMNS), rows)
    sides = [("satellite", result.our_words)] + ([(rivals.STT, result.their_words)] if result.their_words else [])
    errors = [(name, f"{found.percent:.2f} %", str(found.errors), str(found.words)) for name, found in sides]
    yield Table("", ("server", "WER", "errors", "words"), errors)


def mismatch_table(mismatches: Sequence[Mismatch], title: str = "", rival: str = rivals.STT) -> Table:
    """Return what was understood wrongly."""
    if all(one.theirs is None for one in mismatches):
        return Table(title, ("said", "satellite"), [(one.said, one.ours) for one in mismatches])
    rows = [(one.said, one.ours, one.theirs or "") for one in mismatches]
    return Table(title, ("said", "satellite", rival), rows)


def hearing_tables(result: HearingResult, *, mismatches: bool) -> Iterator[Table]:
    """Yield the matrix, then what was heard wrongly under each condition."""
    heads = ("condition", "WER, %", "theirs", "empty", "theirs", "short", "theirs", "invented", "theirs")
    yield Table("", heads, [(found.condition, *_heard(found.ours, found.theirs)) for found in result.figures])
    if mismatches:
        yield from (mismatch_table(found.mismatches, found.condition) for found in result.figures if found.mismatches)


def _heard(ours: Heard, theirs: Heard | None) -> Iterator[str]:
    """Yield each figure of ours with that of theirs beside it."""
    yield f"{ours.wer_percent:.1f}"
    yield f"{theirs.wer_percent:.1f}" if theirs else ""
    for figure in ("empty", "short", "invented"):
        yield str(getattr(ours, figure))
        yield str(getattr(theirs, figure)) if theirs else ""


def speaking_tables(result: SpeakingResult, *, mismatches: bool) -> Iterator[Table]:
    """Yield what was heard of each voice and how it sounds, then what was heard wrongly."""
    kinds = list(dict.fromkeys(kind for found in result.figures for kind in found.ours.by_kind))
    rows: list[Row] = []
    sounds: list[Row] = []
    for found in result.figures:
        sides: list[tuple[str, Said | None]] = [("satellite", found.ours), (rivals.TTS, found.theirs)]
        for name, said in sides:
            if said:
                voice = found.voice, name
                by_kind = (f"{said.by_kind[kind]:.1f}" if kind in said.by_kind else "" for kind in kinds)
                rows.append((*voice, found.whisper, *by_kind, f"{said.wer_percent:.1f}"))
                sounds.append((*voice, f"{said.level_db:.1f}", str(said.clipped), *cells(said.first_audible_ms)))
    yield Table("Heard back, WER, %", ("voice", "server", "Whisper", *kinds, "all"), rows)
    heads = ("voice", "server", "level, dBFS", "clipped samples", *COLUMNS)
    yield Table("Level, clipping and first audible sound, ms", heads, sounds)
    if mismatches:
        for found in result.figures:
            if found.mismatches:
                yield mismatch_table(found.mismatches, found.voice, rivals.TTS)


def tts_tables(result: TtsResult) -> Iterator[Table]:
    """Yield the times over all replies, then of each length."""
    overall = result.overall
    rows = [
        *compared_rows("first audio, ms", overall.first_audio_ms, rivals.TTS),
        *compared_rows("first audible sound, ms", overall.first_audible_ms, rivals.TTS),
        *compared_rows("complete, ms", overall.complete_ms, rivals.TTS),
        *compared_rows("gaps in the sound, ms", overall.stall_ms, rivals.TTS),
    ]
    yield Table("", ("figure", "server", *COLUMNS), rows)
    heads = ("reply of about", "server", "first audio, ms", "p95", "first audible, ms", "sound, s")
    yield Table("", heads, [row for length, figures in result.by_reply.items() for row in _reply_rows(length, figures)])


def _reply_rows(length: str, figures: TtsFigures) -> Iterator[Row]:
    """Yield what one reply took on both sides: medians, and the 95th percentile of the first audio."""
    for name, side in (("satellite", "ours"), (rivals.TTS, "theirs")):
        first: Summary | None = getattr(figures.first_audio_ms, side)
        audible: Summary | None = getattr(figures.first_audible_ms, side)
        sound: Summary | None = getattr(figures.audio_ms, side)
        if first and audible and sound:
            times = f"{first.median:.0f}", f"{first.p95:.0f}", f"{audible.median:.0f}"
            yield length, name, *times, f"{sound.median / 1000:.2f}"


def memory_tables(memory: MemoryResult) -> Iterator[Table]:
    """Yield the memory of every process."""
    first, worked = memory.first, memory.worked
    rows = [_memory_row("satellite, everything", first.ours, worked.ours)]
    rows.append(_memory_row("satellite, without its chat model", None, memory.ours_without_chat))
    rows += [_memory_row(name, first.theirs[name], worked.theirs[name]) for name in worked.theirs]
    if first.their_sum and worked.their_sum:
        rows.append(_memory_row("theirs together", first.their_sum, worked.their_sum))
    heads = ("process", "PSS at first, MiB", "RSS", "PSS after the work, MiB", "RSS", "highest RSS")
    yield Table("", heads, rows)


def _memory_row(name: str, first: Memory | None, worked: Memory) -> Row:
    at_first = (f"{first.pss_mib:.0f}", f"{first.rss_mib:.0f}") if first else ("", "")
    return name, *at_first, f"{worked.pss_mib:.0f}", f"{worked.rss_mib:.0f}", f"{worked.peak_rss_mib:.0f}"


def chat_tables(result: ChatResult) -> Iterator[Table]:
    """Yield a table for everything that was measured."""
    if result.answers:
        yield _answers(result.answers)
        yield _messages(result.answers)
    if result.idle:
        unloads = "server unloads after"
        heads = ("without use, s", unloads, "n", "median", "each", "loading at most", "warm (n)", "ratio")
        yield Table("First word after a rest, ms", heads, [_idle(idle) for idle in result.idle])
    for overhead in result.overhead:
        yield _overhead(overhead)
    if result.switch_first_word_ms:
        yield _switch(result.switch_first_word_ms)
    if result.keep_alive:
        yield _cost(result.keep_alive)


def _answers(answers: AnswerFigures) -> Table:
    rows = [("first word", *cells(answers.first_word_ms)), ("whole answer", *cells(answers.complete_ms))]
    return Table("Ten different messages, end to end, ms", ("figure", *COLUMNS), rows)


def _messages(answers: AnswerFigures) -> Table:
    rows = [
        (message, str(found.first_word_ms.n), f"{found.first_word_ms.median:.0f}", f"{found.complete_ms.median:.0f}")
        for message, found in answers.by_message.items()
    ]
    return Table("Message by message, medians, ms", ("message", "n", "first word", "whole answer"), rows)


def _idle(idle: IdleFigures) -> Row:
    compared = idle.compared
    after, warm = compared.ours, compared.theirs
    assert warm is not None
    return (
        f"{idle.seconds:g}",
        "its default" if idle.unloads_after_seconds is None else f"{idle.unloads_after_seconds:g} s",
        str(after.n),
        f"{after.median:.0f}",
        ", ".join(f"{answered.first_word_ms:.0f}" for answered in idle.after),
        "?" if idle.load_ms is None else f"{idle.load_ms:.0f}",
        f"{warm.median:.0f} ({warm.n})",
        f"{compared.median_ratio or 0:.2f}",
    )


def _overhead(overhead: Overhead) -> Table:
    """Show both sides, the difference of the pairs, and how much two bare calls differ by themselves."""
    rows: list[Row] = []
    for figure, name in (("first word", "first_word"), ("whole answer", "complete")):
        sides: Compared = getattr(overhead, f"{name}_ms")
        assert sides.theirs is not None
        rows += [
            (figure, "through the daemon", *cells(sides.ours, 1)),
            (figure, "bare call", *cells(sides.theirs, 1)),
            (figure, "daemon less bare, pair by pair", *cells(getattr(overhead, f"{name}_more_ms"), 1)),
            (figure, "bare less the bare one before", *cells(getattr(overhead, f"{name}_noise_ms"), 1)),
        ]
    same = f"{overhead.pairs_with_same_words} of {overhead.first_word_more_ms.n} pairs in the same words"
    return Table(f"Beside a bare call, words of {overhead.words}, ms; {same}", ("figure", "", *COLUMNS), rows)


def _switch(switch: Compared) -> Table:
    assert switch.theirs is not None
    rows = [
        ("the first provider is down, the second answers", *cells(switch.ours, 1)),
        ("the second alone", *cells(switch.theirs, 1)),
    ]
    return Table("Switch to the next provider: first word, ms", ("providers", *COLUMNS), rows)


def _cost(cost: KeepAliveCost) -> Table:
    rows = [
        ("CPU of the daemon, keep-alive on", f"{cost.with_percent:.2f} % of a core"),
        ("CPU of the daemon, keep-alive off", f"{cost.without_percent:.2f} % of a core"),
        ("keep-alive", f"{cost.percent:.2f} % of a core"),
    ]
    return Table(f"Cost of the keep-alive, over {cost.seconds:.0f} s at rest", ("what", "takes"), rows)


def endpoint_tables(result: EndpointResult) -> Iterator[Table]:
    """Yield both halves of the trade-off, side by side."""
    kinds = kinds_of(found for figures in result.figures for found in figures.found)
    paused = [kind for kind in kinds if kind]
    people = ("as people pause", "answers withdrawn, as people pause")
    heads = ("", "silence that ends it", *(f"pause: {label(kind)}" for kind in kinds), *people)
    rows = [
        (
            *_finder(figures),
            *(_cut_commands(figures, kind) for kind in kinds),
            f"{figures.cut_weighted_percent():.1f} %",
            f"{figures.withdrawn_weighted_percent():.1f} %" if figures.repairs else "",
        )
        for figures in result.figures
    ]
    answered = f"an answer {result.answer_seconds:g} s after each pause"
    yield Table(f"Commands cut too early, with {answered}", heads, rows)
    lost = ("median, no pause", "p95", "max", "median, with pauses", "p95")
    rows = [
        (*_finder(figures), *_lost(figures.lost_ms(()), 3), *_lost(figures.lost_ms(*paused), 2))
        for figures in result.figures
    ]
    yield Table(
        f"Time lost, from the last of the speech to the end of the command, ms, with {answered}",
        ("", heads[1], *lost),
        rows,
    )
    heads = ("", heads[1], f"heard, and ended within {IN_TIME_MS / 1000:g} s", *lost[:3])
    rows = [
        (*_finder(found), f"{found.in_time} of {len(found.found)}", *_lost(found.lost_ms(()), 3))
        for found in result.television
    ]
    yield Table(f"While other voices speak on, {BACKGROUND_DB:g} dB softer, with {answered}", heads, rows)


def _finder(figures: EndpointFigures) -> Row:
    return figures.finder, figures.setting + (" (default)" if figures.default else "")


def _cut_commands(figures: EndpointFigures, kind: tuple[int, ...]) -> str:
    cut, of = figures.cut(kind)
    return f"{cut} of {of}" + (f" ({100 * cut / of:.1f} %)" if cut else "")


def _lost(summary: Summary | None, columns: int) -> Row:
    if summary is None:
        return ("",) * columns
    return [f"{value:.0f}" for value in (summary.median, summary.p95, summary.max)[:columns]]


def rooms_tables(result: RoomsResult) -> Iterator[Table]:
    """Yield a table for everything that was measured."""
    if result.rest:
        heads = ("rooms that stream", "CPU, % of a core", "a room", "RSS, MiB", "a room", "PSS, MiB")
        yield Table("Nobody speaks", heads, list(_rest(result, result.rest)))
    if result.esphome_rest:
        heads = ("ESPHome rooms", "CPU, % of a core", "a room", "RSS, MiB", "a room", "PSS, MiB")
        yield Table(
            "Nobody speaks, and the devices wait for the wake word", heads, list(_rest(result, result.esphome_rest))
        )
    rows = [*_room_times(result), *_esphome_times(result.esphome)]
    if rows:
        yield Table("Times, ms", ("what", *COLUMNS), rows)
    if result.adoption_seconds:
        row = _row("ESPHome: `satellite rooms adopt` to the first sound in the new room", result.adoption_seconds)
        yield Table("Times, s", ("what", *COLUMNS), [row])


def _rest(result: RoomsResult, rests: Sequence[RestFigures]) -> Iterator[Row]:
    for rest in rests:
        cost = result.cost_of_a_room(rest)
        cpu, more = (f"{cost[0]:.2f}", f"{cost[1]:.2f}") if cost else ("", "")
        held = rest.memory
        yield str(rest.rooms), f"{rest.cpu_percent:.1f}", cpu, f"{held.rss_mib:.0f}", more, f"{held.pss_mib:.0f}"


def _esphome_times(found: EsphomeFigures | None) -> Iterator[Row]:
    if found is not None:
        yield _row("ESPHome: request of the device, with its first audio, to its being taken", found.taken_ms)
        yield _row("ESPHome: end of the question to the device's fetch", found.fetch_ms)
        yield _row("ESPHome: end of the question to the first byte of sound", found.sound_ms)
        yield _row("ESPHome: first sound of the first clause made to its first byte", found.after_clause_ms)
        yield _row(f"ESPHome: end of the question to the sound, {found.together} rooms at once", found.together_ms)


def _room_times(result: RoomsResult) -> Iterator[Row]:
    for found in result.detections:
        where = f"{found.rooms} streaming" if found.rooms > 1 else "one room"
        yield _row(f"end of the wake word sent to `detection`, {where}", found.after_word_ms)
        yield _row(f"deciding sound sent to `detection`, {where}", found.after_decision_ms)
    if result.barge_in:
        what = "wake word during an answer"
        yield _row(f"{what}: its end sent to `audio-stop`", result.barge_in.after_word_ms)
        yield _row(f"{what}: first sound that can have decided sent to `audio-stop`", result.barge_in.after_decision_ms)
        yield _row(f"{what}: the same to the last chunk of the answer", result.barge_in.last_chunk_ms)
    if result.reconnection_ms:
        yield _row("connection cut to listening again", result.reconnection_ms)
    if result.answers_ms:
        if result.answers_ms.theirs:
            yield _row("end of the question to the first sound, one room alone", result.answers_ms.theirs)
        yield _row(f"end of the question to the first sound, {result.together} rooms at once", result.answers_ms.ours)
    if result.describe_ms:
        if result.describe_ms.theirs:
            yield _row("`describe`, no rooms", result.describe_ms.theirs)
        where = f"{result.streaming} rooms stream" if result.streaming else "no rooms"
        yield _row(f"`describe`, {where}", result.describe_ms.ours)


def _row(what: str, summary: Summary) -> Row:
    return what, *cells(summary, 1)


def http_tables(result: HttpResult) -> Iterator[Table]:
    """Yield the times of HTTP."""
    rows = {
        "`/chat` over the run's own time": result.chat_overhead_ms,
        "first word over `/ws` over the model's own time": result.first_token_overhead_ms,
        "`describe`, no other client": result.describe_alone_ms,
        f"`describe`, {result.idle_clients} WebSocket clients idle": result.describe_idle_ms,
        f"`describe`, {result.talking_clients} more talking ({result.commands} commands)": result.describe_talking_ms,
    }
    times = [(what, *cells(summary, 1)) for what, summary in rows.items()]
    yield Table("Times, ms", ("what", *COLUMNS), times)
