"""docs/output.md and the commands agree on which commands print records, and on every field."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from fanbench.cli.app import root
from fanbench.cli.views.records import RUN_FIELDS
from fanbench.results import FIELDS as RESULT_FIELDS
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.messages import BenchmarkResult, Leaderboard
from tests.cli.conftest import FOREVER, Cli
from tests.cli.test_account_commands import row
from tests.cli.test_help import commands
from tests.cli.test_secrets import without_slow_checks

DOCUMENT = Path(__file__).parents[2] / "docs" / "output.md"
NO_RECORDS = "They print no records."


def documented() -> dict[str, tuple[str, ...] | None]:
    """Return the fields under each heading; None if the section says that there are none."""
    sections = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found: dict[str, tuple[str, ...] | None] = {}
    for section in sections:
        heading, _, body = section.partition("\n")
        fields = tuple(re.findall(r"^\| `(\w+)` \|", body, flags=re.MULTILINE))
        if NO_RECORDS in body:
            found |= dict.fromkeys(heading.split(", "))
        else:
            found[heading] = fields
    return found


def declared(command: click.Command) -> tuple[str, ...] | None:
    """Return the fields of the command's view, which is named after the module of the command."""
    assert command.callback is not None
    name = command.callback.__module__.replace(".commands.", ".views.")
    if importlib.util.find_spec(name) is None:
        return None
    fields: Iterable[str] | None = getattr(importlib.import_module(name), "FIELDS", None)
    return None if fields is None else tuple(fields)


def in_code() -> dict[str, tuple[str, ...] | None]:
    from fanbench.cli.views.check_run import FIELDS as TRIAL_FIELDS
    from fanbench.cli.views.models import EFFORT_FIELDS
    from fanbench.cli.views.ranking import FIELDS as RANKING_FIELDS
    from fanbench.cli.views.results import ITEM_FIELDS
    from fanbench.cli.views.sweep import PLAN_FIELDS
    from fanbench.sweeps.report import FIELDS as SWEEP_FIELDS

    leaves = {" ".join(path): found for path, found in commands(root) if not isinstance(found, click.Group)}
    fields = {path: declared(found) for path, found in leaves.items()}
    return fields | {
        "check --run": TRIAL_FIELDS,
        "leaderboard DIR": RANKING_FIELDS,
        "tasks models --efforts": EFFORT_FIELDS,
        "models add": None,
        "models remove": None,
        "results": RESULT_FIELDS,
        "results --items": ITEM_FIELDS,
        "sweep": SWEEP_FIELDS,
        "sweep --dry-run": tuple(PLAN_FIELDS),
        "tasks status, runs": RUN_FIELDS,
    }


def test_the_document_and_the_code_agree() -> None:
    """The document lists every command and every field in the order of the code."""
    assert documented() == in_code()


@pytest.mark.parametrize(
    "words",
    [
        "check task.py",
        "benchmarks add me/b t -y",
        "benchmarks remove me/b t -y",
        "doctor",
        "leaderboard me/b",
        "queue",
        "quota",
        "tasks download t",
        "tasks edit t --tag reasoning",
        "tasks list",
        "tasks log t",
        "tasks models",
        "tasks models --efforts",
        "tasks publish t",
        "tasks push my-task -f task.py",
        "tasks run t -m m",
        "tasks status t",
        "tasks cancel t --dry-run",
        "tasks delete t -y",
    ],
)
def test_records_have_the_documented_fields(
    cli: Cli, kaggle: SimulatedKaggle, task_file: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON, JSON lines and CSV contain exactly the documented fields."""
    without_slow_checks(monkeypatch)
    if words.startswith("check"):
        task_file.write_text(task_file.read_text().replace("one.run(kbench.llm)", ""))
    kaggle.change(can_delete=True)
    kaggle.add_task("t")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_simulated")  # a benchmark is one's own
    kaggle.benchmarks["me", "b"] = []
    kaggle.add_model("m", "Em")
    kaggle.add_run("t", "m", RunScript(running=FOREVER) if "cancel" in words else None)
    kaggle.leaderboards["me", "b"] = Leaderboard(
        rows=[row("m", "Em", a=BenchmarkResult(boolean_result=True))]
    )
    heading = words if words in documented() else re.split(r" (?=my-task|task\.py|t\b|me/|-)", words)[0]
    fields = documented()[heading]
    assert fields
    text = cli(*words.split(), "--format", "json").stdout
    for time in re.findall(r'"(\d{4}-\d\d-\d\dT[^"]*)"', text):
        assert re.fullmatch(r".{10}T\d\d:\d\d:\d\d\.\d{3}Z", time)
    printed = json.loads(text)
    # The Kaggle CLI's field of a task is called as the task.
    task_name = ("A",) if heading == "leaderboard" else ()
    for record in printed if isinstance(printed, list) else [printed]:
        assert tuple(record) == fields + task_name
    assert printed
    if heading in ("doctor", "leaderboard", "tasks delete", "tasks status", "tasks edit"):
        return  # the other formats have other fields, or the task is deleted
    (line, *_) = cli(*words.split(), "--format", "jsonl").stdout.splitlines()
    assert tuple(json.loads(line)) == fields
    assert cli(*words.split(), "--format", "csv").stdout.splitlines()[0] == ",".join(fields)
