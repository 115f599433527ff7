"""`fanbench.sync`: the client and sweeps without `await`, against a simulated Kaggle on a real socket."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

import fanbench
from fanbench import FanbenchError, NotFound, RunState, resolve_config, sync
from fanbench.sweeps.events import SweepEnded, SweepEvent
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, serve

TASK = "import kaggle_benchmarks as kb\n@kb.task(name='{name}')\ndef one(llm) -> bool: ...\none.run(kb.llm)\n"
LONG_LOG = "".join(f"line {number}\n" for number in range(1000))
#: The connection of the asynchronous client, which is of no use in another thread.
NOT_SYNCHRONOUS = {"transport"}

METHODS = sorted(name for name in vars(fanbench.Client) if name[0] != "_" and name not in NOT_SYNCHRONOUS)
OTHERS = {
    "Client": fanbench.Client,
    "Sweep": fanbench.Sweep,
    "ensure_server": fanbench.ensure_server,
    "local_server": fanbench.local_server,
    "plan_sweep": fanbench.plan_sweep,
    "sweep": fanbench.sweep,
}


@contextmanager
def no_thread_is_left() -> Iterator[None]:
    """Threads that were started in the block have ended after it, or are about to."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def kaggle() -> SimulatedKaggle:
    quick = RunScript(running=0.0, log=((0.0, LONG_LOG),))
    return SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=quick), models=["four", "five"])


@pytest.fixture
def client(kaggle: SimulatedKaggle) -> Iterator[sync.Client]:
    with (
        serve(kaggle) as server,
        no_thread_is_left(),
        sync.Client(resolve_config(endpoint=server.url, token="any-token", env={})) as client,
    ):
        yield client


def task_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(TASK.format(name=name))
    return path


def shape(function: Any) -> tuple[list[tuple[str, Any, Any, str]], str]:
    """The parameters and the result of a function, without what tells asynchronous code from synchronous."""
    signature = inspect.signature(function)
    parameters = [(p.name, p.kind, p.default, str(p.annotation)) for p in signature.parameters.values()]
    returned = str(signature.return_annotation).removeprefix("Async")
    return parameters, returned.replace(", None, None]", ", None]")


# --- The same verbs ---


@pytest.mark.parametrize("name", METHODS)
def test_the_client_has_every_method(name: str) -> None:
    """Each method of the asynchronous client is here, with the same parameters, result and documentation."""
    theirs, ours = (getattr(each, name) for each in (fanbench.Client, sync.Client))
    assert shape(ours) == shape(theirs)
    assert not inspect.iscoroutinefunction(ours)
    assert inspect.getdoc(ours)
    assert "aclosing" not in (inspect.getdoc(ours) or "")


def test_the_client_has_no_other_method() -> None:
    """Each public method here is one of the asynchronous client."""
    assert {name for name in vars(sync.Client) if name[0] != "_"} == set(METHODS)


@pytest.mark.parametrize("name", sync.__all__)
def test_everything_else_takes_the_same(name: str) -> None:
    """Each function and class takes what its namesake in `fanbench` takes; a client is a synchronous one."""
    (theirs, returned), (ours, our_returned) = shape(OTHERS[name]), shape(getattr(sync, name))
    assert [(*each, kind.replace("Api", "Client")) for *each, kind in theirs] == [(*each,) for each in ours]
    assert our_returned == returned


def test_the_sweep_has_every_method() -> None:
    """Each public method of `fanbench.Sweep` is here, and takes the same."""
    public = {name for name in vars(fanbench.Sweep) if name[0] != "_"}
    assert {name for name in vars(sync.Sweep) if name[0] != "_"} == public
    assert all(
        shape(getattr(sync.Sweep, name)) == shape(getattr(fanbench.Sweep, name))
        for name in ("drain", "report")
    )


# --- Calls ---


def test_calls_return_their_results(client: sync.Client, tmp_path: Path) -> None:
    """Push, run, status and download return what they do with `await`, and errors are raised."""
    pushed = client.push(task_file(tmp_path, "Red Fox"), wait=True)
    report = client.run(pushed.slug, "*", wait=True)
    assert {run.state for run in report.runs} == {RunState.COMPLETED}
    assert [len(client.status(name).runs) for name in ("red-fox", "red_fox")] == [2, 2]
    both = client.status(["red-fox", "none"])
    assert isinstance(both[1], FanbenchError)
    assert len(client.download("red-fox", output=tmp_path / "out").rows) == 2
    with pytest.raises(NotFound):
        client.status("none")


@pytest.mark.anyio
async def test_calls_work_where_a_loop_is_running(kaggle: SimulatedKaggle) -> None:
    """In a running loop, as in Jupyter, calls and iterators work as elsewhere."""
    kaggle.add_task("t")
    with (
        serve(kaggle) as server,
        sync.Client(resolve_config(endpoint=server.url, token="t", env={})) as client,
    ):
        (run,) = client.run("t", "four", wait=True).runs
        assert next(client.lines(run)) == "line 0"


def test_events_arrive_during_a_call(client: sync.Client, kaggle: SimulatedKaggle) -> None:
    """`emit` is called while the operation runs."""
    kaggle.add_task("t")
    seen: list[object] = []
    client.run("t", "four", wait=True, emit=seen.append)
    assert seen


def test_a_call_from_a_callback_raises(client: sync.Client, kaggle: SimulatedKaggle) -> None:
    """A callback that calls the client, and so would wait for itself, gets RuntimeError; the operation goes on."""
    kaggle.add_task("t")
    refused: list[object] = []

    def call(event: object) -> None:
        with pytest.raises(RuntimeError, match="event loop thread"):
            client.list_models()
        refused.append(event)

    assert client.run("t", "four", wait=True, emit=call).runs
    assert refused


def test_a_client_that_is_not_open_raises() -> None:
    """Before the block and after it, a call raises RuntimeError; it can be opened again."""
    client = sync.Client(resolve_config(endpoint="http://127.0.0.1:9", token="t", env={}))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="with Client"):
            client.list_models()
        with client:
            pass


def test_threads_share_a_client(client: sync.Client, kaggle: SimulatedKaggle) -> None:
    """Calls from several threads run at the same time, and each has its own result."""
    slugs = [f"t{number}" for number in range(20)]
    for slug in slugs:
        kaggle.add_task(slug)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(client.get_task, slugs))
    assert [task.slug.task_slug for task in found] == slugs


# --- Iterators ---


def test_iterators_yield_everything(client: sync.Client, kaggle: SimulatedKaggle) -> None:
    """The lines, the entries of a log, and the tasks of several pages come completely and in their order."""
    for number in range(7):
        kaggle.add_task(f"t{number}")
    (run,) = client.run("t0", "four", wait=True).runs
    assert list(client.lines(run)) == LONG_LOG.splitlines()
    assert "".join(entry.data for entry in client.logs(run.id)) == LONG_LOG
    assert {task.slug.task_slug for task in client.list_tasks(page_size=3)} == {f"t{n}" for n in range(7)}
    assert [found.id for found in client.list_runs("t0")] == [run.id]


def test_an_iterator_that_is_left_early_is_closed(client: sync.Client, kaggle: SimulatedKaggle) -> None:
    """After a `break`, in a `closing` block or still open when the client closes, an iterator leaves nothing behind."""
    kaggle.add_task("t")
    (run,) = client.run("t", "four", wait=True).runs
    for line in client.lines(run):
        assert line == "line 0"
        break
    with closing(client.lines(run)) as lines:
        assert next(lines) == "line 0"
    assert list(lines) == []
    unfinished = client.lines(run)
    assert next(unfinished) == "line 0"
    assert client.list_models()


def test_the_error_of_an_iterator_comes_after_its_items(client: sync.Client) -> None:
    """All items that precede an error are yielded before it is raised."""

    async def numbers() -> Any:
        for number in range(150):
            yield number
        raise FanbenchError("That was all.")

    found = []
    with pytest.raises(FanbenchError, match="all"):  # noqa: PT012
        for number in client._loop.iterate(numbers()):
            found.append(number)
    assert found == list(range(150))


# --- Sweeps ---


def test_a_sweep_in_one_call(client: sync.Client, tmp_path: Path) -> None:
    """`sweep` runs everything, passes its events on and returns the report."""
    events: list[SweepEvent] = []
    file, out = task_file(tmp_path, "a"), tmp_path / "out"
    report = sync.sweep(file, "*", client=client, output=out, on_event=events.append)
    assert len(report.rows) == 2
    assert isinstance(events[-1], SweepEnded)
    assert (out / "summary.json").is_file()


def test_a_sweep_with_its_events(client: sync.Client, tmp_path: Path) -> None:
    """`Sweep` yields the events of a plan as they come, and has a report after its end."""
    plan = sync.plan_sweep(client, task_file(tmp_path, "a"), ["four"], output=tmp_path / "out")
    with sync.Sweep(client, plan) as running:
        events = list(running)
    assert isinstance(events[-1], SweepEnded)
    assert [row.planned_run.model for row in running.report().rows] == ["four"]


def test_a_sweep_is_drained(client: sync.Client, tmp_path: Path) -> None:
    """After `drain`, nothing more is scheduled, and the iteration ends."""
    plan = sync.plan_sweep(client, task_file(tmp_path, "a"), ["*"], output=tmp_path / "out")
    with sync.Sweep(client, plan) as running:
        running.drain()
        assert isinstance(list(running)[-1], SweepEnded)
    assert running.stopped is not None
    assert not running.report().ok


def test_an_error_in_the_block_is_raised_as_it_is(client: sync.Client, tmp_path: Path) -> None:
    """What the caller raises in the block of a sweep stops the sweep, reaches the caller, and not the client."""
    plan = sync.plan_sweep(client, task_file(tmp_path, "a"), ["*"], output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), sync.Sweep(client, plan):
        raise KeyboardInterrupt
    assert client.list_models()


# --- Ctrl-C ---


class Hanging(httpx.AsyncBaseTransport):
    """Presses Ctrl-C at the first request, and takes a while to clean up."""

    cleaned_up = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
            self.cleaned_up = True
        raise AssertionError


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Obey SIGINT, which what a shell runs in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("what", ["call", "sweep"])
def test_ctrl_c_cancels_a_call(what: str, tmp_path: Path) -> None:
    """Ctrl-C cancels what is running and waits until it has cleaned up, and then no thread is left."""
    config, http = resolve_config(endpoint="http://x", token="t", env={}), Hanging()
    with no_thread_is_left(), sync.Client(config, http=http) as client:
        run = partial(sync.sweep, task_file(tmp_path, "a"), "four", client=client, output=tmp_path / "out")
        with pytest.raises(KeyboardInterrupt):
            client.list_models() if what == "call" else run()
        assert http.cleaned_up


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_an_iterator() -> None:
    """Ctrl-C while an iterator waits for its next item closes it, and then no thread is left."""
    config, http = resolve_config(endpoint="http://x", token="t", env={}), Hanging()
    with no_thread_is_left(), sync.Client(config, http=http) as client, pytest.raises(KeyboardInterrupt):
        next(client.list_tasks())
    assert http.cleaned_up
