"""`satellite models` as people and programs see it: output, errors and exit statuses."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from satellite.cli.main import main
from satellite.cli.models import progress_bars
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from tests.hub_server import WHISPER, HubServer
from tests.waiting import PATIENCE_SECONDS

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def _whisper_base(hub: HubServer) -> None:
    hub.repositories = {"Systran/faster-whisper-base": WHISPER}


@pytest.fixture
def models(tmp_path: Path) -> Run:
    """Run `satellite models` with an empty folder and return the exit status."""

    def run(*words: str) -> int:
        file = tmp_path / "config.yaml"
        file.write_text(f"models: {{directory: {tmp_path}}}")
        return main(["--config", str(file), "models", *words])

    return run


def test_list_shows_the_demo_set_with_licences(models: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(catalogue.DEMO)
    assert any("wake/openwakeword" in line and "CC BY-NC-SA 4.0" in line and " no " in line for line in lines)
    assert any("wake/microwakeword" in line and "Apache-2.0" in line and " yes " in line for line in lines)


def test_what_is_pulled_is_listed_found_and_repaired(
    models: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "stt" / "base"

    def output(*words: str) -> str:
        assert models(*words) == 0
        text, errors = capsys.readouterr()
        assert errors == ""
        return text

    assert output("pull", "base") == f"stt/base: fetched, {folder}\n"
    pulled = json.loads(output("pull", "stt/base", "--json"))
    assert pulled == [{"model": "stt/base", "path": str(folder), "fetched": False}]
    assert output("path", "stt/base") == f"{folder}\n"
    entries = json.loads(output("list", "--all", "--json"))
    assert len(entries) == sum(len(catalogue.names(kind)) for kind in Kind)
    base, tiny = (entry for name in ("base", "tiny.en") for entry in entries if entry["name"] == name)
    assert (base["present"], base["size_is_exact"], base["path"]) == (True, False, str(folder))
    assert (tiny["present"], tiny["size_is_exact"], tiny["path"]) == (False, True, None)
    (folder / "model.bin").write_bytes(bytes((folder / "model.bin").stat().st_size))
    assert output("pull", "base").startswith("stt/base: was damaged, fetched again, ")
    assert "already here, and sound" in output("pull", "base")


def test_bar_is_drawn_for_a_terminal_only() -> None:
    spec = catalogue.find(Kind.STT, "base")
    for terminal in (True, False):
        screen = io.StringIO()
        with progress_bars(Console(file=screen, force_terminal=terminal)) as progress:
            progress(spec, 50, 100)
            progress(spec, 100, 100)
        assert ("stt/base" in screen.getvalue()) is terminal
        assert bool(screen.getvalue()) is terminal


def test_pull_takes_the_folder_of_the_option(models: Run, tmp_path: Path) -> None:
    assert models("pull", "stt/base", "--directory", str(tmp_path / "other")) == 0
    assert Store(tmp_path / "other").installed()
    assert not Store(tmp_path).installed()


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["pull", "stt/base", "stt/bsae"], 2, "error: [model-unknown] unknown stt model 'bsae'; did you mean 'base'"),
        (["path", "siwis"], 2, "error: [model-unknown] unknown model 'siwis'; did you mean 'fr_FR-siwis-low'"),
        (["path", "stt/base"], 1, "error: [model-missing] stt/base is not in "),
        (["pull", "stt/small"], 1, "error: [model-download-failed] cannot fetch Systran/faster-whisper-small from "),
    ],
)
def test_errors_are_one_line_and_a_wrong_name_stops_a_pull_before_it_starts(
    hub: HubServer, models: Run, capsys: pytest.CaptureFixture[str], words: list[str], status: int, error: str
) -> None:
    assert models(*words) == status
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(error)
    assert errors.count("\n") == 1
    assert bool(hub.requests) is ("download-failed" in error)


@pytest.mark.slow
def test_root_pulls_as_the_owner_of_the_folder(tmp_path: Path) -> None:
    owned = tmp_path / "models"
    owned.mkdir()
    if os.geteuid() == 0:
        os.chown(owned, 54321, 54322)
    code = (
        "import os, pathlib, sys; from satellite.cli.models import _become_owner; "
        "_become_owner(pathlib.Path(sys.argv[1])); print(os.getuid(), os.geteuid(), os.getegid(), os.getgroups())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(owned / "not" / "there")],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    ).stdout
    owner = owned.stat()
    assert told.startswith(f"{owner.st_uid} {owner.st_uid} {owner.st_gid} ")
    assert os.geteuid() != 0 or told == "54321 54321 54322 [54322]\n"
