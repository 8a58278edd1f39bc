"""Keeps a model's thoughts, `<think>…</think>` amid the answer, from being spoken."""

import re

_NAMES = ("think", "thinking", "thought", "reasoning")
_PAIRS = {f"<{name}>": f"</{name}>" for name in _NAMES} | {"[THINK]": "[/THINK]", "◁think▷": "◁/think▷"}
"""How models write them: most, Mistral's, Kimi's."""

_CLOSED_BY = {opening.lower(): closing.lower() for opening, closing in _PAIRS.items()}
_TAGS = tuple(tag for pair in _CLOSED_BY.items() for tag in pair)
_TAG = re.compile("|".join(map(re.escape, _TAGS)), re.IGNORECASE)


class ThinkFilter:
    """Drops thoughts, and the white space behind them, from text that comes in pieces.

    Text passes at once; only what may still become a tag is held back. A thought that is never closed drops the rest.
    Some models' prompts open the thought for them, so that the text begins inside of one: with `thinking` it is held
    back until the thought is closed, and passes as a whole at the end if it never was.
    """

    def __init__(self, *, thinking: bool = False) -> None:
        self.unopened = False
        """Whether a thought was closed that no tag had opened: what passed before was one."""

        self._held = ""
        self._closing: str | None = None
        self._presumed = "" if thinking else None
        self._skips_space = False

    def feed(self, text: str) -> str:
        """Return what of `text`, and of what was held back, is known to be no thought."""
        self._held += text
        passed = ""
        while tag := _TAG.search(self._held):
            before, self._held = self._held[: tag.start()], self._held[tag.end() :]
            passed += self._pass(before)
            self._turn(tag[0].lower())
        certain = len(self._held) - _possible_start(self._held)
        passed += self._pass(self._held[:certain])
        self._held = self._held[certain:]
        return passed

    def flush(self, *, truncated: bool = False) -> str:
        """Return the rest once nothing more will come; a thought that was `truncated` is still one."""
        rest, self._held = self._pass(self._held), ""
        if self._presumed is not None and not truncated:
            rest, self._presumed = self._presumed, None
        return rest

    def _turn(self, tag: str) -> None:
        """Begin or end a thought at `tag`; what closes another kind of thought than the present one is part of it."""
        if self._closing is None and tag in _CLOSED_BY:
            self._closing = _CLOSED_BY[tag]
        elif self._closing in (None, tag):
            self.unopened = self.unopened or self._closing is None
            self._closing = self._presumed = None
            self._skips_space = True

    def _pass(self, text: str) -> str:
        if self._closing is not None:
            return ""
        if self._presumed is not None:
            self._presumed += text
            return ""
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        return text


def _possible_start(text: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of a tag."""
    end = text[-max(map(len, _TAGS)) :].lower()
    return next((size for size in range(len(end), 0, -1) if any(tag.startswith(end[-size:]) for tag in _TAGS)), 0)
