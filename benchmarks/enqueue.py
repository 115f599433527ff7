"""Count the calls and seconds of a sweep with repeats, with and without the server's queue, in virtual time.

    python benchmarks/enqueue.py [--tasks 20] [--models 60] [--repeats 3] [--folder DIR]

Every response takes 100 ms, a creation 10 s, and a run 30 to 120 s, by its model. Without the queue, the server runs
one repeat of a task on a model at a time and skips the others. The queue takes all of them, and is measured without
limits, and with limits of runs at a time for all models together and for each model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from servers import model_name
from sweep_scale import inline, lean_kaggle
from trio.testing import MockClock

from fanbench.operations.queue import EnqueueMode
from fanbench.sweeps.attempts import content_identity
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import RunSkipped, SweepEnded, SweepEvent
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.spec import Rules
from fanbench.testing import RunScript, Scenario
from fanbench.wire.messages import QueueSettings

CREATION = 10.0
RUN_SECONDS = (30.0, 120.0)
# The limits of runs at a time: of all, and of each model.
LIMITS: dict[str, tuple[int | None, int | None]] = {
    "no limits": (None, None),
    "600 at a time": (600, None),
    "20 per model": (None, 20),
    "300 at a time, 10 per model": (300, 10),
}


def measure(words: argparse.Namespace, enqueue: EnqueueMode, limits: tuple[int | None, int | None]) -> Any:
    most, per_model = limits
    clock = MockClock(autojump_threshold=0)
    with tempfile.TemporaryDirectory(dir=words.folder) as top, Journal.open(Path(top)) as journal:
        sweep = partial(
            _sweep,
            plan(words, Path(top), Rules(enqueue=enqueue)),
            journal,
            QueueSettings(enabled=True, max_concurrency=most, max_concurrency_per_candidate_model=per_model),
        )
        return anyio.run(sweep, backend="trio", backend_options={"clock": clock})


def plan(words: argparse.Namespace, folder: Path, rules: Rules) -> SweepPlan:
    slugs = [f"task-{number}" for number in range(words.tasks)]
    tasks = (PlannedTask(slug, content_identity(slug, ()), None, notebook=slug) for slug in slugs)
    models = tuple(model_name(number) for number in range(words.models))
    return SweepPlan(tuple(tasks), models, folder, words.repeats, rules)


async def _sweep(plan: SweepPlan, journal: Journal, queue: QueueSettings) -> dict[str, Any]:
    first, last = RUN_SECONDS

    def script(task: str, model: str, nth: int) -> RunScript:
        share = plan.models.index(model) / max(1, len(plan.models) - 1)
        return RunScript(running=first + (last - first) * share, output={"answers.bin": b"the output"})

    kaggle = lean_kaggle(Scenario(creation=CREATION, page_size=100, runs=script, queue=queue))
    seen: Counter[type[SweepEvent]] = Counter()
    ended: list[SweepEnded] = []

    def emit(event: SweepEvent) -> None:
        seen[type(event)] += 1
        if isinstance(event, SweepEnded):
            ended.append(event)

    began = anyio.current_time()
    await Engine(SweepContext(kaggle, plan, journal, emit, offload=inline, clock=kaggle.wall)).run()
    assert ended[0].completed == ended[0].planned, ended
    return {
        "seconds": round(anyio.current_time() - began),
        "calls": kaggle.calls.total(),
        "by method": dict(sorted(kaggle.calls.items())),
        "skipped": seen[RunSkipped],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    report = {"without the queue": measure(words, "never", LIMITS["no limits"])}
    for name, limits in LIMITS.items():
        report[f"queue, {name}"] = measure(words, "auto", limits)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
