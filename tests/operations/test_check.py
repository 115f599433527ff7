"""`check --run`: files run in processes of their own with fresh credentials, and their results."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import anyio
import pytest

from fanbench import Forbidden, OutputError, UnknownModel, UsageError
from fanbench.errors import FanbenchError, LocalServerError, TaskFileError
from fanbench.operations.check import (
    Trial,
    TrialBegan,
    TrialLine,
    TrialNote,
    has_magics,
    proxy_model,
    try_files,
)
from fanbench.tasks import read_task_file
from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.messages import ModelProxyToken
from tests.local.wheels import fake_uv
from tests.operations.conftest import INSTANT, Reported, model, simulated
from tests.operations.fake_sdk import install_fake_sdk, task_text

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

# What waits for processes, and stops them, is tried on both event loops. What files do and leave does not depend on it.
on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

MODELS = [model("four", proxy="test/four"), model("five", proxy="test/five@1")]


class Server(SimulatedKaggle):
    """Returns numbered tokens."""

    async def create_proxy_token(self) -> ModelProxyToken:
        await super().create_proxy_token()
        return ModelProxyToken(token=f"key-{self.calls['create_proxy_token']}", base_uri="http://p")


def server() -> Server:
    return Server(INSTANT, models=MODELS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_fake_sdk(tmp_path, monkeypatch)


async def trial_of(
    place: Path, text: str, *, client: SimulatedKaggle | None = None, **options: object
) -> Trial:
    outcome = await outcome_of(place, text, client=client, **options)
    assert isinstance(outcome, Trial), outcome
    return outcome


async def outcome_of(
    place: Path, text: str, *, client: SimulatedKaggle | None = None, **options: object
) -> Trial | FanbenchError:
    (place / "task.py").write_text(text)
    file = read_task_file(place / "task.py")
    (outcome,) = await try_files(client or server(), [file], **options)  # type: ignore[arg-type]
    return outcome


# --- Packages -----------------------------------------------------------------------------------------------

# Plans one package, and "installs" it into the folder after --target.
FAKE_UV = """
case "$*" in
*--dry-run*) echo " + red-fox==2.0" ;;
*) while [ "$1" != --target ]; do shift; done; echo "VERSION = '2.0'" > "$2/red_fox.py" ;;
esac"""
BLOCK = "# /// script\n# dependencies = ['red-fox']\n# ///\n"
USE = "import red_fox, subprocess\ncode = 'import red_fox; print(red_fox.VERSION)'\n"
USE += "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout)\n"


@on_both_loops
async def test_a_file_has_the_packages_of_its_metadata(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dependencies in a file's metadata are installed first; the file and its processes import them."""
    fake_uv(tmp_path, monkeypatch, FAKE_UV)
    reported = Reported()
    text = task_text("return 0.5", before=USE)
    trial = await trial_of(place, BLOCK + text, data=tmp_path / "data", emit=reported)
    assert trial.outcome == "recorded", trial.tail
    assert "2.0" in trial.tail
    notes = [event.text for event in reported if isinstance(event, TrialNote)]
    assert notes[0] == "Installing packages with uv: red-fox"
    assert (await trial_of(place, text, data=tmp_path / "data")).outcome == "failed"


async def test_packages_that_cannot_be_installed_fail_the_file(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the installer fails, or the file wants another Python, the file does not run, and the reason is given."""
    fake_uv(tmp_path, monkeypatch, "echo no such package; exit 1")
    outcome = await outcome_of(place, BLOCK + task_text("return 0.5"), data=tmp_path / "data")
    assert isinstance(outcome, LocalServerError)
    assert str(outcome).endswith("no such package")
    newer = "# /// script\n# requires-python = '>=4'\n# ///\n"
    outcome = await outcome_of(place, newer + task_text("return 0.5"))
    assert isinstance(outcome, TaskFileError)
    code = [{"cell_type": "code", "source": text} for text in ("x = 1", f"\n{newer}", task_text())]
    (place / "task.ipynb").write_text(json.dumps({"nbformat": 4, "cells": code}))
    (outcome,) = await try_files(server(), [read_task_file(place / "task.ipynb")])
    assert isinstance(outcome, TaskFileError)
    assert (outcome.cell, outcome.line) == (2, 2)
    assert outcome.message.startswith("The file requires Python >=4")


# --- How a file is run --------------------------------------------------------------------------------------


@on_both_loops
async def test_a_file_that_records_a_result_passes(place: Path) -> None:
    """A trial of a file that records a result has the result, the model and the time."""
    trial = await trial_of(place, task_text("return 0.5"))
    assert (trial.outcome, trial.exit_code, trial.model, trial.folder) == ("recorded", 0, "test/four", None)
    assert [(row.task, row.value) for row in trial.results] == [("one", 0.5)]
    assert trial.seconds > 0


SHOW = (
    "import json\nprint(json.dumps([__name__, __file__, sys.argv, sys.path[0], os.listdir(), os.getcwd()]))"
)


async def test_a_file_runs_as_with_python(place: Path) -> None:
    """Name, arguments and path are those of `python FILE`; the working folder is empty, and removed afterwards."""
    trial = await trial_of(place, task_text(before=SHOW))
    file = str(place / "task.py")
    *facts, listed, folder = json.loads(trial.tail[0])
    assert facts == ["__main__", file, [file], str(place)]
    assert listed == []
    assert not os.path.exists(folder)


async def test_a_file_can_import_its_neighbour(place: Path) -> None:
    """A file can import modules beside it, as with `python FILE`."""
    (place / "neighbour.py").write_text("VALUE = 3.0")
    trial = await trial_of(place, task_text("return VALUE", before="from neighbour import VALUE"))
    assert trial.results[0].value == 3.0


async def test_credentials_override_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh credentials and the chosen model override the environment, and its other variables are kept."""
    for name in ("MODEL_PROXY_API_KEY", "LLM_DEFAULT", "LLM_DEFAULT_EVAL", "LLM_DEFAULT_JUDGE"):
        monkeypatch.setenv(name, "stale")
    monkeypatch.setenv("MINE", "stays")
    names = ("MODEL_PROXY_API_KEY", "MODEL_PROXY_URL", "LLMS_AVAILABLE", "MINE")
    show = f"print(*[os.environ[name] for name in {names}], kbench.llm, kbench.judge_llm)"
    trial = await trial_of(place, task_text(before=show), model="five")
    assert trial.tail[0] == "key-1 http://p test/four,test/five@1 stays test/five@1 test/five@1"


async def test_the_judge_can_be_another_model(place: Path) -> None:
    """The judge is the model that is named for it, and the model of the run is not affected."""
    trial = await trial_of(place, task_text(before="print(kbench.llm, kbench.judge_llm)"), judge="five")
    assert trial.tail[0] == "test/four test/five@1"


async def test_an_env_file_above_the_sdk_is_ignored(place: Path) -> None:
    """An env file above the SDK, which the SDK would prefer to the environment, is ignored."""
    (place / ".env").write_text("LLM_DEFAULT=old/model\nMODEL_PROXY_API_KEY=old\n")
    show = "print(kbench.llm, os.environ['MODEL_PROXY_API_KEY'])"
    assert (await trial_of(place, task_text(before=show))).tail[0] == "test/four key-1"


async def test_an_env_file_that_the_task_loads_is_used(place: Path) -> None:
    """An env file that the task loads overrides the environment, as with `python FILE`."""
    (place / ".env").write_text("MINE=from the file\n")
    show = "from dotenv import load_dotenv\nload_dotenv()\nprint(os.environ['MINE'])"
    assert (await trial_of(place, task_text(before=show))).tail[0] == "from the file"


async def test_magics_run_in_ipython(place: Path) -> None:
    """Shell lines and cell magics, which plain Python cannot parse, run in IPython."""
    text = "# %%\n!echo from a shell\n# %%\n%%capture\nprint('captured')\n# %%\n" + task_text("return 2.0")
    trial = await trial_of(place, text)
    assert (trial.outcome, trial.results[0].value) == ("recorded", 2.0)
    assert "from a shell" in trial.tail
    assert "captured" not in trial.tail


async def test_a_failed_cell_fails_the_file(place: Path) -> None:
    """In IPython, too, nothing after a failed cell runs, and the traceback is shown."""
    trial = await trial_of(place, "# %%\n!true\n# %%\n1 / 0\n# %%\n" + task_text())
    assert (trial.outcome, trial.exit_code, trial.results) == ("failed", 1, ())
    assert trial.tail[-1] == "ZeroDivisionError: division by zero"


async def test_a_notebook_runs_in_ipython(place: Path) -> None:
    """A notebook runs cell by cell, beside its file, without cells that are tagged to be skipped."""
    (place / "neighbour.py").write_text("VALUE = 3.0")
    cells = [
        {"cell_type": "code", "source": task_text("return VALUE", before="from neighbour import VALUE")},
        {"cell_type": "code", "source": "1 / 0", "metadata": {"tags": ["skip-execution"]}},
        {"cell_type": "code", "source": "print('__file__' in globals())", "metadata": {"tags": None}},
    ]
    (place / "task.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    (trial,) = await try_files(server(), [read_task_file(place / "task.ipynb")])
    assert isinstance(trial, Trial)
    assert (trial.outcome, trial.tail) == ("recorded", ("False",))
    assert [(row.task, row.value) for row in trial.results] == [("one", 3.0)]


async def test_a_notebook_can_import_what_it_writes(place: Path) -> None:
    """A module that `%%writefile` writes can be imported, as in Jupyter."""
    before = "# %%\n%%writefile helper.py\nVALUE = 4.0\n# %%\nfrom helper import VALUE\n"
    trial = await trial_of(place, task_text("return VALUE", before=before))
    assert (trial.outcome, trial.results[0].value) == ("recorded", 4.0)


async def test_a_traceback_counts_the_cells(place: Path) -> None:
    """The traceback of a notebook names the cell that failed by its execution count."""
    after = "# %%\n!echo\n# %%\ndef divide():\n    return 1 / 0\n# %%\ndivide()"
    trial = await trial_of(place, task_text(after=after))
    assert trial.outcome == "failed"
    text = "\n".join(trial.tail)
    assert 'File "Cell In[4]", line 1, in <module>' in text
    assert 'File "Cell In[3]", line 2, in divide' in text


def test_magics_are_detected() -> None:
    """A percent sign or an exclamation mark inside a string is not a magic."""
    assert has_magics("!pip install x\n")
    assert has_magics("%time f()\n")
    assert not has_magics("a = '''\n!x\n%y\n'''\nb = 5 % a\n")
    assert has_magics("-" * 100_000 + "1\n")  # too deep for the parser, and so not for Python alone


# --- What can go wrong --------------------------------------------------------------------------------------


async def test_a_file_that_raises(place: Path) -> None:
    """A file that raises ends with exit code 1 and Python's own traceback, without a frame of ours."""
    trial = await trial_of(place, task_text(after="raise KeyError('lost')"))
    assert (trial.outcome, trial.exit_code) == ("failed", 1)
    assert trial.tail[0] == "Traceback (most recent call last):"
    assert trial.tail[1].startswith(f'  File "{place / "task.py"}"')
    assert trial.tail[-1] == "KeyError: 'lost'"


@on_both_loops
async def test_a_file_that_exits(place: Path) -> None:
    """The exit code, or the signal, of a file that exits is reported."""
    assert (await trial_of(place, task_text(after="sys.exit(7)"))).exit_code == 7
    killed = await trial_of(place, task_text(after="os.kill(os.getpid(), 9)"))
    assert (killed.outcome, killed.exit_code) == ("failed", -9)


async def test_a_run_that_errored(place: Path) -> None:
    """An errored run is a failure even if the process exits with 0."""
    trial = await trial_of(place, task_text("raise ValueError('boom')"))
    assert (trial.outcome, trial.exit_code, trial.results[0].error) == ("errored", 0, "ValueError: boom")


async def test_a_file_that_records_nothing(place: Path) -> None:
    """A file that records nothing fails even if it exits with 0."""
    text = task_text().replace("\none.run", "\nif len(sys.argv) > 9:\n    one.run")
    trial = await trial_of(place, text)
    assert (trial.outcome, trial.exit_code, trial.missing) == ("nothing", 0, ("one",))


async def test_every_task_of_the_file_must_record(place: Path) -> None:
    """A task whose run is never reached is a failure unless that is allowed."""
    second = "@kbench.task(name='Two')\ndef two(llm): ...\nif len(sys.argv) > 9:\n    two.run(kbench.llm)"
    trial = await trial_of(place, task_text(after=second))
    assert (trial.outcome, trial.missing, len(trial.results)) == ("nothing", ("two",), 1)
    assert (await trial_of(place, task_text(after=second), allow_no_run=True)).ok


PARTS = """\
import kaggle_benchmarks as kbench
@kbench.task(name="Part")
def part(llm):
    return 0.5
@kbench.task(name="Row", store_task=False)
def row(llm):
    return 0.5
@kbench.task(name="Silent", store_run=False)
def silent(llm):
    return 0.5
@kbench.task(name="Maybe")
def maybe(llm):
    return 0.5
@kbench.task(name="Whole")
def whole(llm):
    part.run(llm)
    silent.run(llm)
    if llm == "another":
        maybe.run(llm)
        row.run(llm)
    return 1.0
whole.run(kbench.llm)
"""


async def test_parts_of_other_tasks_need_not_record(place: Path) -> None:
    """A run within another run counts as recorded, and helpers and tasks that only others run may record nothing."""
    trial = await trial_of(place, PARTS)
    assert (trial.outcome, trial.missing) == ("recorded", ())
    assert [(row.task, row.value) for row in trial.results] == [("whole", 1.0)]
    again = await trial_of(place, f"{PARTS}if llm := '':\n    maybe.run(llm)\npart.run(kbench.llm)\n")
    assert (again.outcome, again.missing) == ("nothing", ("maybe",))


async def test_a_result_that_the_sdk_cannot_store(place: Path) -> None:
    """If the SDK could not write a run file, as for NaN, the trial has the reason; a file that failed has none."""
    trial = await trial_of(place, task_text("return float('nan')"))
    assert (trial.outcome, trial.not_stored) == ("nothing", "Couldn't parse NaN")
    trial = await trial_of(place, task_text("return float('nan')", after="sys.exit(1)"))
    assert (trial.outcome, trial.not_stored) == ("failed", None)


async def test_a_damaged_run_file(place: Path) -> None:
    """The error for a damaged run file names the file."""
    trial = await trial_of(place, task_text(after="open('Two.run.json', 'w').write('{')"))
    assert (trial.outcome, trial.problems[0].path.name) == ("failed", "Two.run.json")


async def test_a_file_is_stopped_at_the_time_limit(place: Path) -> None:
    """A file that runs too long is stopped, and what it recorded by then is kept."""
    trial = await trial_of(place, task_text(after="time.sleep(600)"), timeout=2)
    assert trial.outcome == "timed out"
    assert [row.task for row in trial.results] == ["one"]
    assert 2 <= trial.seconds < 60


@on_both_loops
async def test_a_file_that_ignores_the_stop_is_killed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that ignores the request to stop is killed after a grace period."""
    monkeypatch.setattr("fanbench.local.executor.supervise.GRACE", 0.1)
    deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)"
    trial = await trial_of(place, task_text(after=deaf), timeout=2)
    assert (trial.outcome, trial.exit_code) == ("timed out", -9)


CHILD = """\
import subprocess
child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={})
print(child.pid, flush=True)
"""


@on_both_loops
async def test_no_process_is_left(place: Path) -> None:
    """After the end no process is left, not even one in its own session that holds the output open."""
    trial = await trial_of(place, task_text(after=CHILD))
    assert trial.ok
    assert await ends(int(trial.tail[0]))


@on_both_loops
async def test_no_process_is_left_by_a_cancellation(place: Path) -> None:
    """After a cancellation neither a process nor a folder is left."""
    (place / "task.py").write_text(
        task_text(after=CHILD + "print(os.getpid(), os.getcwd(), flush=True)\ntime.sleep(600)")
    )
    file = read_task_file(place / "task.py")
    lines: list[str] = []
    async with anyio.create_task_group() as group:

        def report(event: object) -> None:
            if isinstance(event, TrialLine):
                lines.append(event.line)
                if len(lines) == 2:
                    group.cancel_scope.cancel()

        await try_files(server(), [file], emit=report)
    child, (task, folder) = int(lines[0]), lines[1].split()
    assert await ends(child)
    assert await ends(int(task))
    assert not os.path.exists(folder)


async def ends(pid: int) -> bool:
    """Return whether the process is dead, or dies within a moment, as killing takes one."""
    with anyio.move_on_after(5):
        while _lives(pid):
            await anyio.sleep(0.01)
        return True
    return False


def _lives(pid: int) -> bool:
    """Return whether the process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- Several, tokens, what is kept --------------------------------------------------------------------------


@on_both_loops
async def test_several_files_share_a_token_and_keep_their_order(place: Path, reported: Reported) -> None:
    """Files run side by side within the limit, and one that fails does not affect the others."""
    meet = """\
open({mine!r}, "w").close()
while not os.path.exists({other!r}):
    time.sleep(0.01)
"""
    a, b = str(place / "a"), str(place / "b")
    (place / "a.py").write_text(task_text(before=meet.format(mine=a, other=b), after="sys.exit(1)"))
    (place / "b.py").write_text(task_text(before=meet.format(mine=b, other=a)))
    files = [read_task_file(place / name) for name in ("a.py", "b.py")]
    client = server()
    trials = await try_files(client, files, limit=2, emit=reported)
    assert [trial.outcome for trial in trials if isinstance(trial, Trial)] == ["failed", "recorded"]
    assert client.calls["create_proxy_token"] == 1
    assert {event.path.name for event in reported.of(TrialBegan) if isinstance(event, TrialBegan)} == {
        "a.py",
        "b.py",
    }


REFUSED = """\
if os.environ["MODEL_PROXY_API_KEY"] in {refused}:
    raise ValueError("Error code: 401 - the Model Proxy does not know this key")
return 1.0
"""


@on_both_loops
async def test_a_refused_token_is_replaced_and_the_file_run_once_more(place: Path) -> None:
    """A file whose token is refused is run again with a new one, and nothing is left of the first attempt."""
    client = server()
    before = "assert os.listdir() == []"
    trial = await trial_of(place, task_text(REFUSED.format(refused=["key-1"]), before=before), client=client)
    assert (trial.outcome, len(trial.results)) == ("recorded", 1)
    assert client.calls["create_proxy_token"] == 2


async def test_a_second_refusal_is_the_result(place: Path) -> None:
    """If the second token is refused as well, no third one is requested."""
    client = server()
    trial = await trial_of(place, task_text(REFUSED.format(refused=["key-1", "key-2"])), client=client)
    assert (trial.outcome, trial.refused) == ("errored", True)
    assert client.calls["create_proxy_token"] == 2


async def test_a_refused_token_fails_the_file(place: Path) -> None:
    """If the server refuses a token, its error with a hint is the outcome of the file."""
    client = simulated(models=MODELS, faults=(Fault("create_proxy_token", 403),))
    outcome = await outcome_of(place, task_text(), client=client)
    assert isinstance(outcome, Forbidden)
    assert outcome.hint


@on_both_loops
async def test_files_and_output_are_kept(place: Path) -> None:
    """Files and output are kept in a folder named after the file; a later trial gets a folder of its own."""
    text = task_text(after="print('reported')\nopen('more.txt', 'w').close()")
    trials = [await trial_of(place, text, output=place / "kept") for _ in range(2)]
    assert sorted(path.name for path in (place / "kept").iterdir()) == ["task", "task-2"]
    for trial in trials:
        assert trial.folder is not None
        assert sorted(path.name for path in trial.folder.iterdir()) == [
            "One.run.json",
            "more.txt",
            "output.log",
        ]
        assert (trial.folder / "output.log").read_text() == "reported\n"
        assert trial.results[0].path == trial.folder / "One.run.json"


async def test_an_output_that_is_a_file(place: Path) -> None:
    """If the output folder is a file, each trial fails with a hint."""
    (place / "kept").write_text("")
    outcome = await outcome_of(place, task_text(), output=place / "kept")
    assert isinstance(outcome, OutputError)
    assert outcome.hint
    assert "-o" in outcome.hint


async def test_endless_output_is_cut(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept output is limited in size, but the trial still has the last lines."""
    monkeypatch.setattr("fanbench.operations.check.LOG_LIMIT", 100_000)
    text = task_text(after="for number in range(100_000): print(f'line {number}')")
    trial = await trial_of(place, text, output=place / "kept")
    assert trial.tail[-1] == "line 99999"
    assert (place / "kept/task/output.log").stat().st_size < 300_000


async def test_a_missing_sdk_is_reported(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Without the SDK the error names the extra to install, and the server is not called."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    client = server()
    with pytest.raises(UsageError) as caught:
        await trial_of(place, task_text(), client=client)
    assert caught.value.hint
    assert "[local]" in caught.value.hint
    assert client.history == []


@pytest.mark.parametrize("name", ["five", "test/five@1", "test/five-1", "fi*"])
def test_the_model_in_every_spelling(name: str) -> None:
    """A model in any spelling becomes the name that the Model Proxy knows."""
    assert proxy_model(name, MODELS) == "test/five@1"


@pytest.mark.parametrize(("name", "message"), [("six", "Unknown model"), ("f*", "2 models")])
def test_a_model_that_cannot_be_used(name: str, message: str) -> None:
    """An unknown model, or a pattern that matches several, is an error."""
    with pytest.raises((UsageError, UnknownModel), match=message):
        proxy_model(name, MODELS)


def test_a_model_that_the_proxy_does_not_serve() -> None:
    """A model that runs on Kaggle only cannot be used here."""
    with pytest.raises(UsageError, match="does not serve"):
        proxy_model("six", [*MODELS, model("six", allowed=False)])
