"""The rooms part of the benchmark: what is made of its figures."""

import json
from pathlib import Path

import pytest
import yaml
from satellite_bench import marks, own, part_tables
from satellite_bench.memory import Memory
from satellite_bench.rooms import BargeIn, Detections, EsphomeFigures, RestFigures, RoomsResult
from satellite_bench.rooms_adopting import adoption
from satellite_bench.rooms_house import ESPHOME as ESPHOME_DEVICES
from satellite_bench.rooms_house import Home
from satellite_bench.stats import Compared, as_json, summarise

ESPHOME = EsphomeFigures(
    summarise([3.0]), summarise([900.0]), summarise([910.0]), summarise([10.0]), 8, summarise([2600.0])
)
BARGE_IN = BargeIn(summarise([600.0]), summarise([90.0, 110.0]), summarise([80.0, 190.0]))


def result() -> RoomsResult:
    """Return figures of a daemon that hears fifty rooms."""
    return RoomsResult(
        rest=[
            RestFigures(0, 20.0, 1.0, Memory(400.0, 440.0, 500.0)),
            RestFigures(50, 20.0, 51.0, Memory(440.0, 490.0, 500.0)),
        ],
        esphome_rest=[
            RestFigures(0, 20.0, 1.0, Memory(400.0, 440.0, 500.0)),
            RestFigures(50, 20.0, 6.0, Memory(420.0, 465.0, 500.0)),
        ],
        esphome=ESPHOME,
        detections=[Detections(50, summarise([500.0]), summarise([20.0]))],
        reconnection_ms=summarise([300.0]),
        adoption_seconds=summarise([6.5]),
        barge_in=BARGE_IN,
        together=8,
        answers_ms=Compared(summarise([6000.0]), summarise([1500.0])),
        describe_ms=Compared(summarise([4.0]), summarise([3.0])),
        streaming=50,
        failures=["rooms: no answer: busy"],
    )


def test_a_room_costs_what_a_daemon_takes_more_with_it() -> None:
    found = result()
    assert found.cost_of_a_room(found.rest[1]) == (1.0, 1.0)
    assert found.cost_of_a_room(found.rest[0]) is None
    assert found.cost_of_a_room(found.esphome_rest[1]) == (0.1, 0.5)
    assert RoomsResult(rest=found.rest[1:]).cost_of_a_room(found.rest[1]) is None


def test_everything_that_was_measured_is_told() -> None:
    rest, esphome, times, adoption = part_tables.rooms_tables(result())
    assert esphome.rows[1] == ("50", "6.0", "0.10", "465", "0.50", "420")
    assert rest.rows[1] == ("50", "51.0", "1.00", "490", "1.00", "440")
    assert adoption.rows == [
        ("ESPHome: `satellite rooms adopt` to the first sound in the new room", "1", *4 * ("6.5",))
    ]
    told = {row[0]: row[2] for row in times.rows}
    assert told["end of the wake word sent to `detection`, 50 streaming"] == "500.0"
    assert told["end of the question to the first sound, 8 rooms at once"] == "6000.0"
    assert told["end of the question to the first sound, one room alone"] == "1500.0"
    assert told["ESPHome: first sound of the first clause made to its first byte"] == "10.0"
    assert told["ESPHome: end of the question to the sound, 8 rooms at once"] == "2600.0"
    assert told["`describe`, 50 rooms stream"] == "4.0"
    described = json.loads(json.dumps(as_json(result())))
    assert described["costs_of_a_room"] == [None, [1.0, 1.0], None, [0.1, 0.5]]
    assert described["failures"] == ["rooms: no answer: busy"]
    assert list(part_tables.rooms_tables(RoomsResult())) == []


@pytest.mark.parametrize(("mib", "reached"), [(490.0, True), (600.0, False)])
def test_the_most_rooms_are_judged(mib: float, reached: bool) -> None:
    found = result()
    found.rest[1] = RestFigures(50, 20.0, 51.0, Memory(440.0, mib, 600.0))
    cpu, memory, *esphome, together, silence, describe = marks.rooms_verdicts(found)
    assert [verdict.reached for verdict in esphome] == [True] * 3
    assert (together.ours, together.reached) == (2600.0, False)
    assert (cpu.ours, cpu.reached) == (1.0, True)
    assert memory.reached is reached
    assert silence.ours == pytest.approx(109.0)
    assert silence.reached
    assert (describe.ours, describe.reached) == (4.0, True)
    assert list(marks.rooms_verdicts(RoomsResult())) == []


async def test_a_device_found_by_mdns_is_adopted_and_heard(tmp_path: Path, models_directory: Path) -> None:
    async with Home(tmp_path, models_directory, 1).running(1, ESPHOME_DEVICES) as (daemon, house):
        config = own.config_file(tmp_path, daemon.port)
        found = await adoption(house, config, repeats=2)
        assert found.n == 2
        assert found.median > 3  # it looks for devices for that long
    assert [room["name"] for room in yaml.safe_load(config.read_text())["rooms"]] == [
        "room 1",
        "new room 1",
        "new room 2",
    ]
