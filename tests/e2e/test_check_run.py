"""`check --run` with the real SDK on the local server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command_lines import Ended, Fanbench
from tests.local.server_process import TASK, ServerProcess, task_source

pytestmark = pytest.mark.e2e

MAGIC = """
# %%
!echo from a shell
# %%
import kaggle_benchmarks as kbench

@kbench.task(name="Magic Task")
def magic(llm) -> float:
    return float(len(llm.prompt("What is 2 + 2?")))
# %%
magic.run(kbench.llm)
"""


def check(server: ServerProcess, folder: Path, *words: str) -> Ended:
    return Fanbench(server.address, folder).run("check", *words, "--run")


def test_the_real_sdk(server: ServerProcess, tmp_path: Path) -> None:
    """A task that passes, one with magics, one that raises and one that records nothing each give one record."""
    silent = task_source("silent", "return True").replace("the_task.run", "if not kbench: the_task.run")
    files = {
        "passes.py": TASK,
        "magic.py": MAGIC,
        "raises.py": task_source("raises", "raise ValueError('boom')"),
        "silent.py": silent,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ended = check(server, tmp_path, *files, "--format", "jsonl", "-o", "kept")
    rows = {row["file"]: row for row in map(json.loads, ended.out.splitlines())}
    assert {name: (row["outcome"], row["value"]) for name, row in rows.items()} == {
        "passes.py": ("recorded", True),
        "magic.py": ("recorded", 1.0),
        "raises.py": ("errored", None),
        "silent.py": ("nothing", None),
    }
    assert ended.code == 1
    assert (rows["passes.py"]["assertions_passed"], rows["passes.py"]["model"]) == (1, "test/four")
    assert list((tmp_path / "kept/passes").glob("*.run.json"))


def test_another_model(server: ServerProcess, tmp_path: Path) -> None:
    """A wrong answer of the chosen model is a result, and the file passes."""
    (tmp_path / "passes.py").write_text(TASK)
    ended = check(server, tmp_path, "passes.py", "-m", "wrong")
    assert ended.code == 0, ended.text
    assert "passes.py: recorded two-plus-two: COMPLETED, ✗ 0/1 (" in ended.out


READS = """# %%
import kaggle_benchmarks as kbench
from pathlib import Path
words = Path("/kaggle/input/datasets/me/words/words.csv").read_text().split()
Path("/kaggle/working/words.txt").write_text("\\n".join(words))
Path("/kaggle/tmp/scratch.txt").write_text("x")

@kbench.task(name="words")
def words_task(llm) -> float:
    return float(len(words))
# %%
words_task.run(kbench.llm)
"""


@pytest.mark.parametrize("magic", [False, True], ids=["python", "ipython"])
def test_a_task_that_reads_a_dataset(
    server: ServerProcess, tmp_path: Path, datasets: Path, kaggle_folders: None, magic: bool
) -> None:
    """With -d, a file reads the dataset below /kaggle/input and writes its output to /kaggle/working."""
    (tmp_path / "reads.py").write_text(f"{READS}# %%\n!echo hello\n" if magic else READS)
    ended = check(server, tmp_path, "reads.py", "-d", "me/words", "--datasets", str(datasets), "-o", "kept")
    assert ended.code == 0, ended.text
    assert (tmp_path / "kept/reads/words.txt").read_text() == "word\nalpha\nbeta"
    assert list((tmp_path / "kept").rglob("scratch.txt")) == []
