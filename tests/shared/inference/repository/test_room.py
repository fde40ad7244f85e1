"""Whether there is memory to load a model."""

from pathlib import Path

import pytest

from shared.inference.repository.room import RoomError, check_room, measure_room
from tests.shared.inference.graphs import linear, write_model


def write_system(folder: Path, available_kb: int, **group: str) -> tuple[Path, Path]:
    (folder / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {available_kb} kB\nBuffers: 1 kB\n")
    (folder / "group").mkdir(exist_ok=True)
    for name, content in group.items():
        (folder / "group" / f"memory.{name}").write_text(content)
    return folder / "meminfo", folder / "group"


def test_the_smaller_of_machine_and_control_group_counts(tmp_path: Path) -> None:
    assert measure_room(tmp_path / "none", tmp_path / "none") is None
    assert measure_room(*write_system(tmp_path, 5000)) == 5000 * 1024
    files = {"current": "900000\n", "stat": "anon 1\ninactive_file 300000\nactive_file 100000\n"}
    assert measure_room(*write_system(tmp_path, 5000, max="max\n", **files)) == 5000 * 1024
    # Files that were read can go.
    assert measure_room(*write_system(tmp_path, 5000, max="1000000\n", **files)) == 500_000
    assert measure_room(*write_system(tmp_path, 5000, max="10000\n", **files)) == 0


def test_a_model_that_cannot_fit_is_refused_in_numbers(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    check_room(artifact, None)
    check_room(artifact, 10_000)
    with pytest.raises(RoomError, match="needs at least 0 MB of memory, 0 MB are left; unload another model"):
        check_room(artifact, 100)
