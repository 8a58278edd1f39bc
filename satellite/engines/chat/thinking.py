"""Keeps a model's thoughts, `<think>…</think>` amid the answer, from being spoken."""

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkFilter:
    """Drops thoughts, and the white space behind them, from text that comes in pieces.

    Text passes at once; only what may still become a tag is held back. A thought that is never closed drops the rest.
    """

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._skips_space = False

    def feed(self, text: str) -> str:
        """Return what of `text`, and of what was held back, is known to be no thought."""
        self._held += text
        passed = ""
        while True:
            tag = _CLOSE if self._thinking else _OPEN
            before, found, rest = self._held.partition(tag)
            if not found:
                break
            passed += self._pass(before)
            self._thinking = not self._thinking
            self._skips_space = not self._thinking
            self._held = rest
        certain = len(self._held) - _possible_start(self._held, tag)
        passed += self._pass(self._held[:certain])
        self._held = self._held[certain:]
        return passed

    def flush(self) -> str:
        """Return the rest once nothing more will come: the beginning of a tag that never was one."""
        rest, self._held = self._pass(self._held), ""
        return rest

    def _pass(self, text: str) -> str:
        if self._thinking:
            return ""
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        return text


def _possible_start(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `tag`."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if tag.startswith(text[-size:])), 0)
