"""Text on its way to a voice: a bounded buffer between its writer and the synthesis."""

import asyncio

from satellite.errors import TextToSpeechError

_PIECE_CHARACTERS = 1000
"""Text that is handed out at a time: cutting it into clauses takes a few milliseconds, whatever it holds."""


class TextBuffer:
    """Pieces of text, in order; iterate it. It is bounded by the characters of the whole text, so `add` never waits."""

    def __init__(self, max_characters: int, *, wait_seconds: float | None = None) -> None:
        """Take up to `max_characters`; a reader waits for the next piece for `wait_seconds`, None for ever."""
        self._left = max_characters
        self._wait_seconds = wait_seconds
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._ended = False
        self._error: BaseException | None = None

    @classmethod
    def of(cls, text: str) -> "TextBuffer":
        """Return a buffer that holds a whole text."""
        buffer = cls(max(1, len(text)))
        buffer.add(text)
        buffer.end()
        return buffer

    def add(self, text: str) -> None:
        """Add `text`, unless it has ended; what exceeds the limit ends it with an error of the kind `too-long`."""
        if self._ended:
            return
        self._left -= max(len(text), 1)  # empty pieces take room as well
        if self._left < 0:
            self.end(TextToSpeechError("the text is too long", kind="too-long"))
            return
        for at in range(0, len(text), _PIECE_CHARACTERS):
            self._pieces.put_nowait(text[at : at + _PIECE_CHARACTERS])

    def end(self, error: BaseException | None = None) -> None:
        """No more text follows; `error` is raised after what there is. May be called twice: the first call counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._pieces.put_nowait(None)

    def __aiter__(self) -> "TextBuffer":
        return self

    async def __anext__(self) -> str:
        """Return the next piece. Raises what the text ended with, and `TextToSpeechError` when none comes in time."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                piece = await self._pieces.get()
        except TimeoutError as error:
            raise TextToSpeechError("the rest of the text did not come in time", kind="timeout") from error
        if piece is None:
            self._pieces.put_nowait(None)  # for the next call
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        if len(piece) == _PIECE_CHARACTERS:
            await asyncio.sleep(0)  # `get` does not yield to the loop: a long text without a sentence would hold it
        return piece
