"""Where the time goes in the middle command of each side, drawn for a terminal and as a picture."""

from dataclasses import dataclass
from io import StringIO

from satellite_bench.voice import Turn, VoiceResult


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


def svg(result: VoiceResult) -> str:
    """Return the same as an SVG picture; empty where no command was answered."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    sides = _in_the_middle(result)
    if not sides:
        return ""
    figure = Figure(figsize=(8, 1 + 0.6 * len(sides)), layout="constrained")
    axes = figure.add_subplot()
    for row, (_, found) in enumerate(sides):
        for span in found:
            axes.barh(row, span.end_ms - span.begin_ms, left=span.begin_ms, color=span.stage.colour)
        end_ms = found[-1].end_ms
        axes.annotate(f"{end_ms:.0f} ms", (end_ms, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(sides)), [name for name, _ in sides])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("ms")
    axes.set_title("From the last word to the first sound of the answer, the median command", loc="left", fontsize=10)
    patches = [Patch(color=stage.colour, label=stage.label) for stage in _STAGES]
    figure.legend(handles=patches, loc="outside lower left", ncols=len(patches), frameon=False, fontsize=9)
    picture = StringIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text, which is searched and read aloud
        figure.savefig(picture, format="svg")
    return picture.getvalue()
