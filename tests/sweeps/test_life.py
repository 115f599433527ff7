"""A process that was killed has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench.testing import ApiCall, run_in_virtual_time
from tests.sweeps.life import Killed, MortalKaggle, MortalRecords
from tests.sweeps.records import MemoryRecords


@pytest.mark.parametrize(("kill_in", "runs"), [(("schedule_runs", False), 0), (("schedule_runs", True), 1)])
def test_a_dead_process_has_no_effect(tmp_path: Path, kill_in: tuple[ApiCall, bool], runs: int) -> None:
    """After the kill no call reaches the server, and nothing is written to the journal or the disk."""
    kaggle, records = MortalKaggle(), MemoryRecords()
    kaggle.add_task("t")
    ended = kaggle.add_run("t", "old", age=100.0)

    async def main() -> None:
        kaggle.begin(kill_in=kill_in)
        with pytest.raises(Killed):
            await kaggle.schedule_runs("t", ["m"])
        with pytest.raises(Killed):
            await kaggle.schedule_runs("t", ["m2"])
        with pytest.raises(Killed):
            await kaggle.download_output(ended.id, tmp_path / "out")
        with pytest.raises(Killed):
            await kaggle.life.offload(lambda: (tmp_path / "file").touch())
        MortalRecords(records, kaggle.life).save_value("name", "value")

    run_in_virtual_time(main, backend="trio")
    assert len(kaggle.our_runs()) == runs
    assert records.value("name") is None
    assert list(tmp_path.iterdir()) == []
