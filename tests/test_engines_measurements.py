"""What was measured of a model is measured once, as long as nothing changes that it depends on."""

import itertools
import json
import logging
from pathlib import Path

import pytest

from satellite.engines.measurements import Measurements


def test_it_is_measured_again_only_under_other_conditions(tmp_path: Path) -> None:
    uses = itertools.count(1)

    def weight(cores: int) -> dict[str, object]:
        return Measurements(tmp_path).get("weight", {"cores": cores}, lambda: {"weight": next(uses)})

    assert [weight(2), weight(2)] == [{"weight": 1}] * 2
    assert Measurements(tmp_path).get("length", {}, lambda: 0.5) == 0.5
    assert [weight(4), weight(2)] == [{"weight": 2}, {"weight": 3}]
    assert Measurements(tmp_path).get("length", {}, lambda: 0.7) == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["measured.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"weight": 3}', '{"weight": {"found": 3}}', '{"weight": '])
def test_what_cannot_be_read_is_measured_anew(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "measured.json").write_text(content)
    assert Measurements(tmp_path).get("weight", {}, lambda: 1) == 1
    assert "measured.json cannot be read; measuring again" in caplog.text
    assert json.loads((tmp_path / "measured.json").read_text()) == {"weight": {"under": {}, "found": 1}}


def test_where_nothing_can_be_written_it_is_measured_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "satellite")
    (tmp_path / "file").write_text("no folder")
    for place, found in (("file", [1, 2]), ("new/folder", [1, 1])):
        measure = itertools.count(1).__next__
        assert [Measurements(tmp_path / place).get("weight", {}, measure) for _ in range(2)] == found
    assert "measured.json cannot be written; measuring at every start" in caplog.text
