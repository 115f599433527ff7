"""The vendor's own command line, unmodified, through the whole life of a task on the local server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command_lines import Kaggle
from tests.e2e.vendor_versions import VERSIONS
from tests.local.server_process import TASK, ServerProcess

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("version", VERSIONS)
def test_the_whole_life_of_a_task(server: ServerProcess, tmp_path: Path, version: str) -> None:
    """Each of push, run, status, log, list, models, publish and download succeeds, and prints what it should.

    `init`, `auth`, refused tokens and the exit codes of errors: see test_side_by_side.py.
    """
    slug = f"life-with-{version.replace('.', '-')}"
    vendor = Kaggle(server.address, tmp_path, version)
    (tmp_path / "task.py").write_text(TASK.replace("two-plus-two", slug))
    pushed = vendor("tasks", "push", slug, "-f", "task.py", "--wait", "--poll-interval", "1")
    assert "Completed" in pushed
    assert f"/benchmarks/tasks/local/{slug}/1" in pushed
    ran = vendor("tasks", "run", slug, "-m", "test/four", "-m", "wrong", "--wait", "--poll-interval", "1")
    assert "test/four: Scheduled" in ran or "four: Scheduled" in ran
    assert "wrong: COMPLETED" in ran
    status = vendor("tasks", "status", slug)
    assert "Status:   Completed" in status
    assert status.count("Completed") == 3
    log = vendor("tasks", "log", slug, "-m", "wrong")
    assert "no idea" in log
    assert "Showed logs for 1 run(s) across 1 model(s)." in log
    listed = vendor("tasks", "list", "--name-regex", f"^{slug}", "--status", "completed")
    assert slug in listed
    assert "No tasks found" in vendor("tasks", "list", "--name-regex", "^nothing")
    models = vendor("tasks", "models")
    assert all(slug in models for slug in ("four", "wrong", "slow", "broken"))
    published = vendor("tasks", "publish", slug)
    assert "published successfully" in published
    assert "Backing notebook also published." in published
    assert "already public" in vendor("tasks", "publish", slug)
    assert "not found" in vendor("tasks", "status", "no-such-task", code=1)
    assert "Some model names may be invalid" in vendor("tasks", "run", slug, "-m", "nobody", code=1)
    downloaded = vendor("tasks", "download", slug, "-o", "out", "-s")
    assert "2 run(s) downloaded" in downloaded
    files = [p for p in (vendor.folder / f"out/{slug}/1").glob("*/*/*") if p.name.endswith(".run.json")]
    results = {
        p.parent.parent.name: json.loads(p.read_text())["results"][0].get("booleanResult") for p in files
    }
    assert results["four"] is True
    assert not results["wrong"]
    assert len(list((vendor.folder / "out").rglob("__notebook__.ipynb"))) == 2
    assert "2 run(s) cached" in vendor("tasks", "download", slug, "-o", "out")
