"""What the journal keeps of a plan: to continue it, and to refuse another one in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from fanbench._util.text import first_few
from fanbench.errors import JournalError, SweepError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.benchmarks import whole_name
from fanbench.results.scales import Scale
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.spec import DEFAULT_OUTPUT, SweepSpec, TaskChoice, merge, to_json, to_path

__all__ = [
    "Saved",
    "read_saved",
    "refuse_other_sweep",
    "resumed",
    "saved_text",
    "spec_of",
    "with_benchmark_of_today",
    "with_planned_benchmark",
]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The sweep of a folder. `spec` makes the same plan again; None if its notebooks did not come from files.

    `endpoint` is the `Config.server` that it runs on. `models` are labels of candidates, of which `agents` are agents.
    """

    endpoint: str
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int
    judge: str = ""
    agents: tuple[str, ...] = ()
    spec: SweepSpec | None = None

    @property
    def scales(self) -> dict[str, Scale]:
        """The declared scales of tasks, by their slugs."""
        declared = self.spec.tasks if self.spec is not None else ()
        return {task.name or task.slug or "": task.scale for task in declared if task.scale is not None}


_FRESH = "--fresh starts again and keeps the old folder aside; -o names another folder."


def spec_of(plan: SweepPlan) -> SweepSpec | None:
    """Return a spec for exactly this plan, every task and model by its name: patterns might match more later."""
    tasks = []
    for task in plan.tasks:
        if task.file is not None:
            tasks.append(
                TaskChoice(
                    file=task.file,
                    name=task.slug,
                    datasets=task.datasets,
                    scale=task.scale,
                    page=task.declared_page,
                )
            )
        elif task.notebook is None:
            tasks.append(TaskChoice(slug=task.slug, scale=task.scale))
        else:
            return None
    rules = {name: getattr(plan.rules, name) for name in plan.rules.__struct_fields__}
    models, agents = _kinds(plan.models, plan.choice.agents)
    return SweepSpec(
        tasks=tuple(tasks),
        benchmark=plan.benchmark.name if plan.benchmark else None,
        benchmark_tasks=plan.benchmark.tasks if plan.benchmark else None,
        models=models,
        agents=agents,
        judge=plan.judge or None,
        repeats=plan.repeats,
        output=plan.output,
        **rules,
    )


def _kinds(labels: Sequence[str], agents: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the labels of candidates into those of models and those of agents."""
    models = tuple(label for label in labels if label not in agents)
    return models, tuple(label for label in labels if label in agents)


def saved_text(plan: SweepPlan, server: str) -> str:
    """Return the `Saved` of a plan as JSON, with absolute paths.

    Raises:
        UsageError: A path is not Unicode.
    """
    tasks = tuple(task.slug for task in plan.tasks)
    return to_json(
        Saved(
            endpoint=server,
            tasks=tasks,
            models=plan.models,
            repeats=plan.repeats,
            judge=plan.judge,
            agents=_kinds(plan.models, plan.choice.agents)[1],
            spec=spec_of(plan),
        )
    )


def read_saved(text: str) -> Saved:
    try:
        return msgspec.json.decode(text, type=Saved, dec_hook=to_path)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JournalError(f"The sweep in the journal cannot be read: {error}", hint=_FRESH) from None


def resumed(root: Path) -> SweepSpec:
    """Return the sweep that the folder `root` holds, to continue it there, wherever the folder was at first.

    Raises:
        UsageError: There is no sweep, or none that can be planned again.
        JournalError: The journal cannot be read.
    """
    saved = _saved_in(root)
    if saved is None:
        raise UsageError(
            f"No task is given, and {root} has no sweep to continue.",
            hint="Name task files, patterns such as 'tasks/*.py', or tasks on the server.",
        )
    if saved.spec is None:
        raise UsageError(f"The sweep in {root} was started by a Python program, which must continue it.")
    return merge(saved.spec, output=root)


async def with_planned_benchmark(client: Api, spec: SweepSpec) -> SweepSpec:
    """Return `spec` with the tasks that its benchmark had when the sweep in its folder was planned, if that is its own.

    Raises:
        UsageError: The name of the benchmark is not valid.
        JournalError: The journal cannot be read.
    """
    if not spec.benchmark or spec.benchmark_tasks is not None:
        return spec
    saved = await anyio.to_thread.run_sync(_saved_in, spec.output or DEFAULT_OUTPUT)
    before = saved.spec if saved is not None else None
    if before is None or before.benchmark != "/".join(await whole_name(client, spec.benchmark)):
        return spec
    return msgspec.structs.replace(spec, benchmark_tasks=before.benchmark_tasks)


def with_benchmark_of_today(spec: SweepSpec) -> SweepSpec:
    """Return `spec` without the tasks that its benchmark had when the sweep was planned: it may have others by now.

    A task with a scale of its own stays, because the user has named it.
    """
    before = spec.benchmark_tasks or ()
    tasks = tuple(task for task in spec.tasks if task.slug not in before or task.scale is not None)
    return msgspec.structs.replace(spec, tasks=tasks, benchmark_tasks=None)


def _saved_in(root: Path) -> Saved | None:
    """Return the sweep of a folder, if it has one."""
    journal, text = Journal.read(root), None
    if journal is not None:
        with journal:
            text = journal.saved_spec()
    return None if text is None else read_saved(text)


def refuse_other_sweep(text: str, plan: SweepPlan, server: str) -> None:
    """Raise unless `plan` continues the folder's sweep, which is `text` as JSON.

    A plan continues a sweep on the same server if it has all tasks, models and repeats of the sweep, and its
    judge; with more, it extends it. Limits and policies may differ, and so may the content of the tasks.

    Raises:
        SweepError: The folder has another sweep.
        JournalError: `text` cannot be read.
    """
    saved = read_saved(text)
    if saved.endpoint != server:
        local = saved.endpoint.removeprefix("local:")
        flags = f"--endpoint {local}" if local == saved.endpoint else f"--local --data {shlex.quote(local)}"
        raise SweepError(
            f"{plan.output} holds another sweep, which runs on {saved.endpoint}, not on {server}.",
            hint=f"To continue it, add {flags} (a server without --local must listen at the same address). {_FRESH}",
        )
    saved_models, saved_agents = _kinds(saved.models, saved.agents)
    models, agents = _kinds(plan.models, plan.choice.agents)
    differences = [
        *_missing("task", saved.tasks, [task.slug for task in plan.tasks]),
        *_missing("model", saved_models, models),
        *_missing("agent", saved_agents, agents),
    ]
    if plan.repeats < saved.repeats:
        differences.append(f"it repeats {saved.repeats} times, this one {plan.repeats}")
    if plan.judge != saved.judge:
        differences.append(f"its judge is {_judge(saved.judge)}, that of this one is {_judge(plan.judge)}")
    if differences:
        command = f"fanbench sweep -o {shlex.quote(str(plan.output))}"
        raise SweepError(
            f"{plan.output} holds another sweep: {'; '.join(differences)}.",
            hint=f"`{command}` without tasks continues that one. {_FRESH}",
        )


def _judge(slug: str) -> str:
    return slug or "the server's"


def _missing(what: str, saved: Iterable[str], planned: Iterable[str]) -> list[str]:
    there = set(planned)
    gone = [name for name in saved if name not in there]
    if not gone:
        return []
    return [f"this one lacks its {what}{'s' if len(gone) > 1 else ''} {first_few(gone)}"]
