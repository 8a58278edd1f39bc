"""The rooms part in tables."""

from collections.abc import Iterator, Sequence

from satellite_bench.chat_report import Table
from satellite_bench.rooms import RoomsResult
from satellite_bench.stats import Summary

Row = Sequence[str]


def tables(result: RoomsResult) -> Iterator[Table]:
    """Yield a table for everything that was measured."""
    if result.rest:
        heads = ("rooms that stream", "CPU, % of a core", "a room", "RSS, MiB", "a room", "PSS, MiB")
        yield Table("Nobody speaks", heads, list(_rest(result)))
    rows = list(_times(result))
    if rows:
        yield Table("Times, ms", ("what", "n", "median", "p95", "max", "mean"), rows)


def _rest(result: RoomsResult) -> Iterator[Row]:
    for rest in result.rest:
        cost = result.cost_of_a_room(rest)
        cpu, more = (f"{cost[0]:.2f}", f"{cost[1]:.2f}") if cost else ("", "")
        held = rest.memory
        yield str(rest.rooms), f"{rest.cpu_percent:.1f}", cpu, f"{held.rss:.0f}", more, f"{held.pss:.0f}"


def _times(result: RoomsResult) -> Iterator[Row]:
    for found in result.detections:
        where = f"{found.rooms} streaming" if found.rooms > 1 else "one room"
        yield _row(f"end of the wake word sent to `detection`, {where}", found.after_word_ms)
        yield _row(f"deciding sound sent to `detection`, {where}", found.after_decision_ms)
    if result.barge_in:
        what = "wake word amid an answer"
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
    values = (summary.median, summary.p95, summary.max, summary.mean)
    return what, str(summary.n), *(f"{value:.1f}" for value in values)
