"""The sound of short replies that are said again and again, so that they need not be made again."""

from collections import OrderedDict

_MOST_TEXTS = 512
"""Texts remembered as having been said once."""

_SHARE = 8
"""No single sound takes more than this part of the memory."""


class SoundCache:
    """Sounds by voice and text, at most `limit_bytes` of them; the one unused longest goes.

    A text is kept when it is said for the second time: answers of a chat model seldom are, and push nothing out.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keep nothing where `limit_bytes` is 0."""
        self._limit_bytes = limit_bytes
        self._sounds: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._once: OrderedDict[tuple[str, str], None] = OrderedDict()

    def get(self, identity: str, text: str) -> bytes | None:
        """Return the sound of `text` by a voice, see `Speaker.identity`."""
        sound = self._sounds.get((identity, text))
        if sound is not None:
            self._sounds.move_to_end((identity, text))
        return sound

    def offer(self, identity: str, text: str, sound: bytes) -> None:
        """`text` was made into `sound`; keep it if it was said before, and is short."""
        key = (identity, text)
        if key in self._sounds or not sound or len(sound) * _SHARE > self._limit_bytes:
            return
        if key not in self._once:
            self._once[key] = None
            if len(self._once) > _MOST_TEXTS:
                self._once.popitem(last=False)
            return
        del self._once[key]
        self._sounds[key] = sound
        self._bytes += len(sound)
        while self._bytes > self._limit_bytes:
            _, gone = self._sounds.popitem(last=False)
            self._bytes -= len(gone)
