"""How long voices take for a text, by which their deadlines grow: some make a whole sentence before it sounds."""

from collections import OrderedDict, deque

_RECENT = 5
"""Texts of which the slowest counts."""

_SLOWER = 4.0
"""How much slower than that a voice may be on a machine that has become busy."""

_LONGEST_SECONDS = 60.0
"""By then the engine counts as hung."""

_VOICES = 16


class VoicePaces:
    """Remembers the pace of the voices that spoke last."""

    def __init__(self) -> None:
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()  # seconds a character

    def add(self, identity: str, text: str, seconds: float) -> None:
        """Remember that the first sound of `text` took so long."""
        self._recent.setdefault(identity, deque(maxlen=_RECENT)).append(seconds / max(1, len(text)))
        self._recent.move_to_end(identity)
        if len(self._recent) > _VOICES:
            self._recent.popitem(last=False)

    def longest_seconds(self, identity: str, text: str) -> float:
        """Return how long the first sound of `text` may take at this pace; 0 for a voice that has not spoken yet."""
        slowest = max(self._recent.get(identity, ()), default=0.0)
        return min(_LONGEST_SECONDS, _SLOWER * slowest * len(text))
