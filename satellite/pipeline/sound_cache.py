"""A cache of the sound of short replies that are spoken again and again."""

from collections import OrderedDict

_MOST_TEXTS = 512
"""Texts of which it is remembered that they were spoken once."""

_SHARE = 8
"""No sound takes more than this fraction of the memory."""


class SoundCache:
    """Sounds by voice and text, up to `limit_bytes`; the least recently used is dropped.

    A sound is kept when its text is spoken for the second time. Answers of a chat model seldom are, and so do not
    displace replies that are.
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
        """Keep `sound`, that of `text`, if the text was spoken before and the sound is short."""
        key = (identity, text)
        # A long sound would displace many short ones, and is more likely to be an answer of the model.
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
