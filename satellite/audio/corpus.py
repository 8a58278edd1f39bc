"""Recordings with their transcripts: a folder of NAME.wav and NAME.txt."""

from dataclasses import dataclass
from pathlib import Path

from satellite.audio.pcm import seconds_of
from satellite.audio.sound_files import read_sound
from satellite.errors import SatelliteError


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording in canonical PCM and what is said in it; no words mean that nobody speaks."""

    name: str
    words: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips under a name that tells a reader of the results what they are."""

    name: str
    clips: tuple[Clip, ...]

    @property
    def seconds(self) -> float:
        """How long all clips last together."""
        return sum(seconds_of(clip.pcm) for clip in self.clips)

    @property
    def longest(self) -> Clip:
        """The clip that lasts longest."""
        return max(self.clips, key=lambda clip: len(clip.pcm))


def read_corpus(folder: Path, name: str | None = None) -> Corpus:
    """Return the corpus in `folder` and the folders below it, by name.

    Raises `SatelliteError` with the code `bad-recordings`, which names every recording that cannot be used: a corpus
    with some clips left out would be another corpus.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    if not files:
        raise SatelliteError(f"{folder}: no recordings (NAME.wav with NAME.txt)", code="bad-recordings")
    clips: list[Clip] = []
    problems: list[str] = []
    for file in files:
        try:
            clips.append(_read_clip(file, folder))
        except SatelliteError as error:
            problems.append(str(error))
        except (OSError, ValueError) as error:
            problems.append(f"{file}: {error or 'is cut short'}")
    if problems:
        raise SatelliteError("\n".join(problems), code="bad-recordings")
    return Corpus(name or folder.resolve().name, tuple(clips))


def _read_clip(file: Path, folder: Path) -> Clip:
    transcript = file.with_suffix(".txt")
    if not transcript.is_file():
        raise ValueError(f"no transcript: {transcript.name} is missing")
    pcm = read_sound(file)
    if not pcm:
        raise ValueError("holds no audio")
    words = transcript.read_text(encoding="utf-8").strip()
    return Clip(file.relative_to(folder).with_suffix("").as_posix(), words, pcm)
