"""The part of a recording in which some of its words are said, found by their place in the text and by pauses."""

from satellite.audio.pcm import RATE, WIDTH

_BLOCK_SAMPLES = RATE // 50
_SEARCH_SECONDS = 0.35
"""How far from where it should be a boundary is looked for: speech is not equally fast."""

_MARGIN_SECONDS = 0.06
_END_SECONDS = 0.2
_SPEECH_SHARE = 0.05
"""Level above which a block is speech, as a share of the loudest."""

_PAUSE_SHARE = 0.03
"""How much louder than the quietest block nearby another one may be for a pause, as a share of the loudest."""

_PEAK = 0.6
_MOST_GAIN = 10.0


def recorded_words(pcm: bytes, text: str, words: str) -> bytes:
    """Return the part of canonical `pcm`, in which `text` is said, with `words`, which are part of it, at one level.

    Its beginning and its end are pauses near to where the letters before and after are over. Empty where nothing is
    said.
    """
    import numpy as np

    samples = np.frombuffer(pcm[: len(pcm) // WIDTH * WIDTH], np.int16).astype(np.float32) / 32768
    blocks = samples[: len(samples) // _BLOCK_SAMPLES * _BLOCK_SAMPLES].reshape(-1, _BLOCK_SAMPLES)
    levels = np.sqrt(np.square(blocks).mean(axis=1))
    spoken = np.flatnonzero(levels > _SPEECH_SHARE * levels.max(initial=0.0))
    if not len(spoken):
        return b""
    first, last = int(spoken[0]), int(spoken[-1]) + 1
    at = max(0, text.casefold().find(words.casefold()))
    search = round(_SEARCH_SECONDS * RATE / _BLOCK_SAMPLES)

    def boundary(letters: int, edge: int) -> int:
        """Return the nearest pause to the place of a letter; at either end of the text, the end of the speech."""
        if letters in (0, len(text)):
            return edge
        middle = first + round((last - first) * letters / len(text))
        low, high = max(first, middle - search), min(last, middle + search + 1)
        if high <= low:
            return middle
        pauses = low + np.flatnonzero(levels[low:high] <= levels[low:high].min() + _PAUSE_SHARE * levels.max())
        return int(pauses[np.argmin(np.abs(pauses - middle))])

    begin = boundary(at, first) * _BLOCK_SAMPLES - round(_MARGIN_SECONDS * RATE)
    end_letters = at + len(words)
    ends_text = not any(letter.isalnum() for letter in text[end_letters:])
    end = boundary(len(text) if ends_text else end_letters, last) * _BLOCK_SAMPLES
    end += round(_END_SECONDS * RATE) if ends_text else 0
    part = samples[max(0, begin) : end]
    gain = min(_MOST_GAIN, _PEAK / max(float(np.abs(part).max(initial=0.0)), 1e-6))
    return (part * gain * 32767).astype(np.int16).tobytes()
