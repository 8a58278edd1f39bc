"""The voice part in tables, and as a picture: where the time goes in the command in the middle, on one axis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from satellite_bench import microvad, rivals
from satellite_bench.chat_report import Table
from satellite_bench.stats import Summary
from satellite_bench.voice import OURS, Turn, VoiceFigures, VoiceResult
from satellite_bench.wake import NAME, WakeFigures, WakeResult

Row = Sequence[str]

RIVAL = f"{rivals.STT} and {rivals.TTS}, driven as {microvad.NAME} drives them"


@dataclass(frozen=True, slots=True)
class Stage:
    """What passes until a moment of a command, and how it is drawn in a terminal and in colour."""

    moment: str
    label: str
    letter: str
    colour: str


_STAGES = (
    Stage("endpoint", "waiting for the end", "░", "#c9ced6"),
    Stage("transcript", "speech to text", "▒", "#9dbfe0"),
    Stage("answer", "chat model", "▓", "#5f8fc7"),
    Stage("first_sound", "voice", "█", "#2b5797"),
)
_TOGETHER = Stage("first_sound", "chat model and voice at once", "█", "#2b5797")
"""In place of the last two where the sound begins before the answer is whole."""

_COLUMNS = 60


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the time between the last of the speech and the first sound."""

    stage: Stage
    begin_ms: float
    end_ms: float


def tables(result: VoiceResult) -> Iterator[Table]:
    """Yield the times of both sides, then what they got wrong."""
    heads: Row = ("from the last of the speech, ms", "", "n", "median", "p95", "max", "mean")
    rows = [row for name, figures in result.sides for row in _times(name, figures)]
    yield Table("Voice to voice", heads, rows)
    lengths = list(result.ours.spliced)
    heads = ("", "no pause", *(f"pause: {length} ms" for length in lengths), "calls of the chat model a command")
    yield Table("Cut too early", heads, [_cut(name, figures) for name, figures in result.sides])


def _times(name: str, figures: VoiceFigures) -> Iterator[Row]:
    shown = {
        "end of the command": figures.stage_ms("endpoint"),
        "transcript": figures.stage_ms("transcript"),
        "**first sound**": figures.voice_ms,
        "(work left after the end of the command)": figures.after_commit_ms,
    }
    for label, summary in shown.items():
        if summary:
            yield label, name, str(summary.n), *_cells(summary)


def _cells(summary: Summary) -> Row:
    return [f"{value:.0f}" for value in (summary.median, summary.p95, summary.max, summary.mean)]


def _cut(name: str, figures: VoiceFigures) -> Row:
    plain = [turn.cut for turn in figures.turns]
    calls = figures.calls_per_command
    shares = [_share(cut) for cut in (plain, *figures.spliced.values())]
    return name, *shares, "" if calls is None else f"{calls:.2f}"


def _share(cut: Sequence[bool]) -> str:
    return f"{sum(cut)} of {len(cut)}" + (f" ({100 * sum(cut) / len(cut):.1f} %)" if any(cut) else "")


def spans(turn: Turn) -> list[Span]:
    """Return what the time of a complete command was spent on; a stage that was over before the last is left out."""
    found: list[Span] = []
    begin_ms, last_ms = 0.0, turn.first_sound_ms or 0.0
    together = turn.answer_ms is None or turn.answer_ms >= last_ms
    for stage in (*_STAGES[:2], _TOGETHER) if together else _STAGES:
        end_ms: float | None = getattr(turn, f"{stage.moment}_ms")
        if end_ms is not None and begin_ms < end_ms <= last_ms:
            found.append(Span(stage, begin_ms, end_ms))
            begin_ms = end_ms
    return found


def _in_the_middle(result: VoiceResult) -> list[tuple[str, list[Span]]]:
    sides = [(name, figures.median_turn) for name, figures in result.sides]
    return [(name, spans(turn)) for name, turn in sides if turn]


def waterfall(result: VoiceResult) -> list[str]:
    """Return lines for a terminal: the command in the middle of each side, on one axis."""
    sides = _in_the_middle(result)
    if not sides:
        return []
    longest = max(found[-1].end_ms for _, found in sides)
    lines = []
    for name, found in sides:
        bar = ""
        for span in found:
            bar += span.stage.letter * (round(span.end_ms / longest * _COLUMNS) - len(bar))
        lines.append(f"{name:<9} {bar} {found[-1].end_ms:.0f} ms")
    legend = "  ".join(f"{stage.letter} {stage.label}" for stage in _STAGES)
    return [*lines, f"{'':<9} {legend}"]


_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 760, 80, 70, 34, 26, 44
_STEPS_MS = (50, 100, 200, 500, 1000, 2000, 5000)
_TICKS = 8


def svg(result: VoiceResult) -> str:
    """Return the same as a picture; empty where no command was answered."""
    sides = _in_the_middle(result)
    if not sides:
        return ""
    longest = max(found[-1].end_ms for _, found in sides)
    bottom = _TOP + len(sides) * (_BAR + _GAP)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 52}" font-family="sans-serif" '
        'font-size="13" role="img">',
        "<title>From the last of the speech to the first sound of the answer</title>",
        f'<rect width="{_WIDTH}" height="{bottom + 52}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="24" font-weight="bold">From the last word to the first sound of the answer, '
        "the median command</text>",
        *_axis(longest, scale, bottom),
    ]
    for number, (name, found) in enumerate(sides):
        top = _TOP + _GAP / 2 + number * (_BAR + _GAP)
        lines.append(f'<text x="{_LEFT - 10}" y="{top + 22:.0f}" text-anchor="end">{escape(name)}</text>')
        lines += [_bar(span, scale, top) for span in found]
        end = _LEFT + found[-1].end_ms * scale + 8
        weight = ' font-weight="bold"' if name == OURS else ""
        lines.append(f'<text x="{end:.0f}" y="{top + 22:.0f}"{weight}>{found[-1].end_ms:.0f} ms</text>')
    return "\n".join([*lines, *_legend(bottom + 40), "</svg>"]) + "\n"


def _axis(longest: float, scale: float, bottom: float) -> Iterator[str]:
    step = next((step for step in _STEPS_MS if longest / step <= _TICKS), _STEPS_MS[-1])
    for at in range(0, int(longest) + 1, step):
        x = _LEFT + at * scale
        yield f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#e3e6ea"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" font-size="11" fill="#5f6670">{at} ms</text>'


def _bar(span: Span, scale: float, top: float) -> str:
    x, width = _LEFT + span.begin_ms * scale, (span.end_ms - span.begin_ms) * scale
    what = f"{span.stage.label}: {span.end_ms - span.begin_ms:.0f} ms"
    shape = f'<rect x="{x:.1f}" y="{top:.0f}" width="{width:.1f}" height="{_BAR}" fill="{span.stage.colour}">'
    return f"{shape}<title>{escape(what)}</title></rect>"


def _legend(y: float) -> Iterator[str]:
    x = _LEFT
    for stage in _STAGES:
        yield f'<rect x="{x}" y="{y - 10:.0f}" width="12" height="12" fill="{stage.colour}"/>'
        yield f'<text x="{x + 17}" y="{y:.0f}">{stage.label}</text>'
        x += 44 + 7 * len(stage.label)


def wake_tables(result: WakeResult) -> Iterator[Table]:
    """Yield what listening for the wake word costs."""
    heads = ("engine", "streams a core", "CPU, ms a frame of 80 ms")
    sides: list[tuple[str, WakeFigures | None]] = [(OURS, result.ours), (NAME, result.theirs)]
    rows = [(name, f"{found.streams_a_core:.0f}", f"{found.frame_ms:.2f}") for name, found in sides if found]
    yield Table("Okay nabu, over and over", heads, rows)
