#!/usr/bin/env python3
"""Pin every package that pyproject.toml leads to, with the hashes of all its files, in one list for each use.

    scripts/lock.py              pin what is new, keep what is pinned
    scripts/lock.py --upgrade    pin the newest versions

requirements/base.txt has what every installation needs, build.txt what builds the distribution, bench.txt what the
benchmark adds, and one list for each extra what that adds. ONNX Runtime is the exception: its two packages own the same
files, so cpu.txt and gpu.txt have one each, and base.txt none. The lists hold for Linux on x86_64 and aarch64, and for
every Python. Needs uv.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "requirements"
ONNX_RUNTIME = "onnxruntime"
HEADER = "# Written by scripts/lock.py. For pip install --no-deps --require-hashes -r\n"

Pins = dict[str, str]
"""Packages by name, each with its lines in a list."""


def main(arguments: list[str]) -> None:
    """Resolve everything at once, then each use by the result, so that all agree."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    with tempfile.TemporaryDirectory() as folder:
        build, bench, everything = (Path(folder, name) for name in ("build.in", "bench.in", "everything.txt"))
        build.write_text("\n".join(project["build-system"]["requires"]))
        with (ROOT / "bench" / "pyproject.toml").open("rb") as file:
            needed = tomllib.load(file)["project"]["dependencies"]
        bench.write_text("\n".join(name for name in needed if name != project["project"]["name"]))
        if "--upgrade" not in arguments:  # uv keeps what the file pins that it is to write
            everything.write_text("".join(path.read_text() for path in sorted(LISTS.glob("*.txt"))))
        resolve("pyproject.toml", str(build), str(bench), "--all-extras", "--output-file", str(everything))
        pinned = ("--constraints", str(everything))
        base = pins(resolve("pyproject.toml", *pinned))
        uses = {}
        for extra in project["project"]["optional-dependencies"]:
            wanted = pins(resolve("pyproject.toml", "--extra", extra, *pinned))
            uses[extra] = {name: pin for name, pin in wanted.items() if name not in base}
        uses["build"] = pins(resolve(str(build), *pinned))
        wanted = pins(resolve(str(bench), *pinned))
        uses["bench"] = {name: pin for name, pin in wanted.items() if name not in base}
    uses["cpu"] = {ONNX_RUNTIME: base.pop(ONNX_RUNTIME)}
    for path in LISTS.glob("*.txt"):
        path.unlink()
    for use, wanted in {"base": base, **uses}.items():
        (LISTS / f"{use}.txt").write_text(HEADER + "".join(wanted.values()))


def resolve(*arguments: str) -> str:
    """Return what uv prints."""
    command = ("uv", "pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet")
    return subprocess.run([*command, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def pins(text: str) -> Pins:
    """Return the packages in uv's output, without the marker that says no more than [tool.uv] environments."""
    everywhere = Counter(re.findall(r" ; .*(?= \\$)", text, re.MULTILINE)).most_common(1)[0][0]
    text = text.replace(everywhere, "")
    return {match[1]: match[0] for match in re.finditer(r"^(\S+)==(?:.*\\\n)*.*\n", text, re.MULTILINE)}


if __name__ == "__main__":
    main(sys.argv[1:])
