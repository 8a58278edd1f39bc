"""What was measured of a model is measured once, as long as nothing changes that it depends on."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from satellite.engines.measurements import Measurements


class Scale:
    """Counts how often it was used."""

    def __init__(self) -> None:
        self.uses = 0

    def __call__(self) -> dict[str, Any]:
        """Measure."""
        self.uses += 1
        return {"weight": self.uses}


def test_it_is_measured_again_only_under_other_circumstances(tmp_path: Path) -> None:
    scale = Scale()
    assert Measurements(tmp_path).get("weight", {"cores": 2}, scale) == {"weight": 1}
    assert Measurements(tmp_path).get("weight", {"cores": 2}, scale) == {"weight": 1}
    assert Measurements(tmp_path).get("length", {}, lambda: 0.5) == 0.5
    assert Measurements(tmp_path).get("weight", {"cores": 4}, scale) == {"weight": 2}
    assert Measurements(tmp_path).get("weight", {"cores": 2}, scale) == {"weight": 3}
    assert Measurements(tmp_path).get("length", {}, lambda: 0.7) == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["measured.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"weight": 3}', '{"weight": {"found": 3}}', '{"weight": '])
def test_what_cannot_be_read_is_measured_anew(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "measured.json").write_text(content)
    with caplog.at_level(logging.WARNING, "satellite"):
        assert Measurements(tmp_path).get("weight", {}, Scale()) == {"weight": 1}
    assert "measured.json cannot be read; measuring again" in caplog.text
    assert json.loads((tmp_path / "measured.json").read_text()) == {"weight": {"under": {}, "found": {"weight": 1}}}


def test_where_nothing_can_be_written_it_is_measured_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scale = Scale()
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING, "satellite"):
        for _ in range(2):
            Measurements(tmp_path / "file").get("weight", {}, scale)
    assert scale.uses == 2
    assert "measured.json cannot be written; measuring at every start" in caplog.text
    for _ in range(2):
        Measurements(tmp_path / "new" / "folder").get("weight", {}, scale)
    assert scale.uses == 3
