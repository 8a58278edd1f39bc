"""The grammars in use, one for each language; the libraries that they need are imported with the first one."""

import asyncio
from collections import OrderedDict
from importlib import import_module
from typing import TYPE_CHECKING

import home_assistant_intents

from satellite.languages import closest
from satellite.tasks import begin_task

if TYPE_CHECKING:
    from satellite.skills.grammar import Grammar


class Grammars:
    """The grammars in use, compiled when they are first needed, off the event loop."""

    def __init__(self, most: int) -> None:
        """Keep as many as `most`, of a few megabytes each; the least recently used goes."""
        self._most = most
        self._grammars: OrderedDict[str, asyncio.Task[Grammar]] = OrderedDict()

    @property
    def languages(self) -> list[str]:
        """Return the languages that are loaded."""
        return [code for code, grammar in self._grammars.items() if grammar.done()]

    def has(self, language: str) -> bool:
        """Return whether `get` returns at once: the grammar is compiled, or there is none."""
        code = known_language(language)
        return code is None or (code in self._grammars and self._grammars[code].done())

    async def get(self, language: str) -> "Grammar | None":
        """Return the grammar of a language code; None if there is none."""
        loading = self.load(language)
        # Shielded: a caller that times out leaves the grammar to be compiled for the next question.
        return None if loading is None else await asyncio.shield(loading)

    def load(self, language: str) -> "asyncio.Task[Grammar] | None":
        """Begin to compile the grammar of a language code unless it is compiled; None if there is none."""
        code = known_language(language)
        if code is None:
            return None
        known = self._grammars.get(code)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            self._grammars[code] = begin_task(asyncio.to_thread(_compiled, code), f"grammar {code}")
        self._grammars.move_to_end(code)
        # One that is still being compiled ends by itself: its task is owned by `begin_task`.
        while len(self._grammars) > self._most:
            self._grammars.popitem(last=False)
        return self._grammars[code]

    async def close(self) -> None:
        """Wait for what is being compiled, since threads cannot be stopped; may be called twice."""
        if self._grammars:
            await asyncio.wait(self._grammars.values())


def known_language(language: str) -> str | None:
    """Return Home Assistant's code of a language such as `en-GB`, `fr_FR` or `no`; None where it has none."""
    return closest(language, home_assistant_intents.get_languages())


def _compiled(language: str) -> "Grammar":
    """Return a grammar, with everything imported that answering needs; blocks."""
    from satellite.skills.grammar import Grammar

    import_module("satellite.skills.responses")  # Jinja is large: imported here, in the thread
    return Grammar(language)
