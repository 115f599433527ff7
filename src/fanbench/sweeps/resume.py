"""What the journal keeps of a plan: to go on with it, and to refuse another one in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec

from fanbench.errors import JournalError, SweepError, UsageError
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.spec import SweepSpec, TaskChoice, merge, to_json, to_path

__all__ = ["Saved", "refuse_other_sweep", "resumed", "same_sweep", "saved_text", "spec_of"]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The sweep of a folder. `spec` makes the same plan again; `None` if its notebooks came from no files."""

    endpoint: str
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int
    spec: SweepSpec | None = None

    @classmethod
    def of(cls, plan: SweepPlan, endpoint: str) -> Self:
        tasks = tuple(task.slug for task in plan.tasks)
        return cls(
            endpoint=endpoint, tasks=tasks, models=plan.models, repeats=plan.repeats, spec=spec_of(plan)
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `saved_text` made.

        Raises:
            JournalError: something else did.
        """
        try:
            return msgspec.json.decode(text, type=cls, dec_hook=to_path)
        except msgspec.MsgspecError as error:
            raise JournalError(f"The journal's sweep cannot be read: {error}", hint=_FRESH) from None


_FRESH = "--fresh starts anew, and keeps the old folder aside; -o names another folder."


def spec_of(plan: SweepPlan) -> SweepSpec | None:
    """A spec for exactly this plan, every task and model by its name: patterns might match more another day."""
    tasks = [_choice(task) for task in plan.tasks]
    known = tuple(task for task in tasks if task is not None)
    if len(known) != len(tasks):
        return None
    rules = {name: getattr(plan.rules, name) for name in plan.rules.__struct_fields__}
    return SweepSpec(tasks=known, models=plan.models, repeats=plan.repeats, output=plan.output, **rules)


def _choice(task: PlannedTask) -> TaskChoice | None:
    if task.file is not None:
        return TaskChoice(file=task.file, name=task.slug, datasets=task.datasets)
    return TaskChoice(slug=task.slug) if task.notebook is None else None


def saved_text(plan: SweepPlan, endpoint: str) -> str:
    """`Saved` as JSON, with absolute paths.

    Raises:
        UsageError: a path is not Unicode.
    """
    return to_json(Saved.of(plan, endpoint))


def resumed(root: Path) -> SweepSpec:
    """The sweep that the folder `root` holds, to go on with in that folder, wherever it was when it began.

    Raises:
        UsageError: there is none, or none that can be made again.
        JournalError: its journal cannot be read.
    """
    journal, text = Journal.read(root), None
    if journal is not None:
        with journal:
            text = journal.saved_spec()
    if text is None:
        raise UsageError(
            f"No task is given, and {root} has no sweep that could go on.",
            hint="Name task files, patterns such as 'tasks/*.py', or tasks of the server.",
        )
    spec = Saved.from_text(text).spec
    if spec is None:
        raise UsageError(f"The sweep in {root} was begun by a program, and goes on from there only.")
    return merge(spec, output=root)


def refuse_other_sweep(saved: str, plan: SweepPlan, endpoint: str) -> None:
    """
    Raises:
        SweepError: `saved`, the folder's sweep as JSON, is another one (see `same_sweep`).
        JournalError: it is nothing that can be read.
    """
    error = same_sweep(Saved.from_text(saved), plan, endpoint)
    if error is not None:
        raise error


def same_sweep(saved: Saved, plan: SweepPlan, endpoint: str) -> SweepError | None:
    """Why `plan` does not go on with the folder's sweep; `None` if it does.

    It does if it is for the same server and has all tasks, models and repeats that the folder's has: with
    more, it extends that. Limits and policies may differ, and so may the content of the tasks.
    """
    if saved.endpoint != endpoint:
        return SweepError(
            f"{plan.output} holds another sweep: it runs on {saved.endpoint}, and this one on {endpoint}.",
            hint=f"That one goes on with its server: --endpoint {saved.endpoint}. If it was a local server, start that "
            f"on the same port again. {_FRESH}",
        )
    differences = [
        *_lacking("task", saved.tasks, [task.slug for task in plan.tasks]),
        *_lacking("model", saved.models, plan.models),
        *(
            [f"it repeats {saved.repeats} times, and this one {plan.repeats}"]
            if plan.repeats < saved.repeats
            else []
        ),
    ]
    if not differences:
        return None
    return SweepError(
        f"{plan.output} holds another sweep: {'; '.join(differences)}.",
        hint=f"`fanbench sweep -o {shlex.quote(str(plan.output))}` without tasks goes on with that one. {_FRESH}",
    )


_NAMED = 5


def _lacking(what: str, saved: Iterable[str], planned: Iterable[str]) -> list[str]:
    there = set(planned)
    gone = [name for name in saved if name not in there]
    if not gone:
        return []
    more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
    return [f"this one lacks its {what}{'s' if len(gone) > 1 else ''} {', '.join(gone[:_NAMED])}{more}"]
