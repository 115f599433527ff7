"""Measure the page of `fanbench report` in Chromium: its size, how soon it is drawn, how fast it is, its memory.

    python benchmarks/page.py [--times 5] [--results FOLDER …] [--keep FOLDER]

The first page has the runs of the examples that the tests have, copied to nine models and five repeats, with all their
details. The others have made runs without details: one half of the tasks gives numbers, the other half passes or fails,
and a few runs error or leave nothing. `--results` measures a report of real results as well, and `--keep` keeps the
pages.

"First paint" is the time from opening the file until the browser has drawn something, which is all of the first view.
"A switch" to a view is from the change of the address until it is drawn. "Heap" is what JavaScript holds after that.
All are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from fanbench import read_results
from fanbench._util.text import iso_time
from fanbench.results import Item, ItemState, ResultSet, RunResult
from fanbench.view.document import build
from fanbench.view.report import overview, page, report
from fanbench.wire.messages import RunState

EXAMPLES = Path(__file__).parents[1] / "tests/results/data"
VIEWS = ("leaderboard", "runs", "compare", "before", "cost", "timeline", "matrix")
#: Milliseconds from a change of the address until the view is drawn.
SWITCH = """
(view) => new Promise((resolve) => {
  const begin = performance.now();
  const drawn = () => resolve(performance.now() - begin);
  addEventListener("hashchange", () => requestAnimationFrame(() => setTimeout(drawn)), { once: true });
  location.hash = `#/${view}`;
})
"""
PAINT = """
new Promise((resolve) => {
  const observer = new PerformanceObserver((list) => resolve(list.getEntries()[0].startTime));
  observer.observe({ type: "paint", buffered: true });
})
"""
KINDS = ("arithmetic", "summaries", "reasoning", "translation", "coding")
FAMILIES = ("qwen", "gpt", "gemini", "mistral", "llama", "claude")
SIZES = ("mini", "flash", "pro", "large")
ERRORS = (
    "ValueError: invalid literal for int() with base 10: 'eight legs'",
    "TimeoutError: The model did not answer within 300 seconds.",
    "openai.RateLimitError: Error code: 429",
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def made(tasks: int, models: int, repeats: int, *, seed: int = 1) -> ResultSet:
    """Return made results, as the top of this file says."""
    seeded = random.Random(seed)
    items = list(_items(seeded, tasks, models, repeats))
    return ResultSet(runs=tuple(map(_run, items)), items=items)


def _items(seeded: random.Random, tasks: int, models: int, repeats: int) -> Iterator[Item]:
    skills = [seeded.uniform(0.1, 0.95) for _ in range(models)]
    prices = [10 ** seeded.uniform(-5, -2) for _ in range(models)]
    for task in range(tasks):
        kind = KINDS[task % len(KINDS)]
        for model in range(models):
            for repeat in range(1, repeats + 1):
                (state,) = seeded.choices(
                    (ItemState.SCORED, ItemState.ERRORED, ItemState.NO_VALUE), (96, 3, 1)
                )
                scored, is_number = state is ItemState.SCORED, task % 2 == 0
                value = min(1.0, max(0.0, seeded.gauss(skills[model], 0.05)))
                yield Item(
                    task=f"task-{task:03}-{kind}",
                    content="c",
                    version=1,
                    model=f"{FAMILIES[model % 6]}/{FAMILIES[model % 6]}-{SIZES[model % 4]}-{model}",
                    sweep="made",
                    run_id=(task * models + model) * repeats + repeat,
                    repeat=repeat,
                    state=state,
                    value=(value if is_number else float(seeded.random() < value)) if scored else None,
                    kind=("numeric" if is_number else "boolean") if scored else None,
                    tokens_in=seeded.randint(100, 2000),
                    tokens_out=seeded.randint(10, 900),
                    cost_usd=None
                    if state is not ItemState.SCORED
                    else prices[model] * seeded.uniform(0.8, 1.2),
                    started=iso_time(BEGIN + timedelta(seconds=seeded.uniform(0, 1500))),
                    seconds=round(seeded.uniform(2, 60), 3),
                    error=seeded.choice(ERRORS) if state is ItemState.ERRORED else None,
                    path=f"task-{task:03}/1/{model}/{repeat}/a.run.json",
                )


def _run(item: Item) -> RunResult:
    owner, _, model = item.model.partition("/")
    boolean = item.kind == "boolean"
    return RunResult(
        task=item.task,
        name=item.task,
        version=1,
        content=item.content,
        model=model,
        model_owner=owner,
        run_id=item.run_id,
        repeat=item.repeat,
        state=RunState.ERRORED if item.state is ItemState.ERRORED else RunState.COMPLETED,
        kind=item.kind,
        value=bool(item.value) if boolean else item.value,
        rows=1 if item.state is not ItemState.NO_VALUE else 0,
        tokens_in=item.tokens_in,
        tokens_out=item.tokens_out,
        cost_usd=item.cost_usd,
        seconds=item.seconds,
        started=item.started,
        error=item.error,
        path=Path(item.sweep, item.path).parent,
    )


def made_page(tasks: int, models: int, repeats: int) -> bytes:
    shown = build(made(tasks, models, repeats), title="made")
    return page(shown.document.title, overview(shown))


def examples_page(folder: Path, models: int = 9, repeats: int = 5) -> bytes:
    """Copy the run files of the examples, with other names of models and other ids of runs, and report them."""
    for task in sorted(EXAMPLES.iterdir()):
        sources = sorted(task.glob("1/*/*"))
        for model in range(models):
            source = sources[model % len(sources)]
            for repeat in range(repeats):
                to = folder / task.name / "1" / f"model-{model}" / str(model * repeats + repeat + 1)
                shutil.copytree(source, to)
                for file in to.glob("*.run.json"):
                    text = file.read_text(encoding="utf-8")
                    file.write_text(text.replace(source.parent.name, f"model-{model}"), encoding="utf-8")
                if (log := source.with_name(f"{source.name}.log")).exists():
                    shutil.copy(log, to.with_name(f"{to.name}.log"))
    return report([folder], read_results(folder))


def measure(browser: Browser, file: Path, times: int) -> dict[str, Any]:
    paints, heaps = [], []
    switches: dict[str, list[float]] = {view: [] for view in VIEWS}
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        tab = context.new_page()
        tab.goto(file.as_uri())
        tab.locator("main > *").wait_for()
        paints.append(tab.evaluate(PAINT))
        for view in VIEWS:
            switches[view].append(tab.evaluate(SWITCH, view))
        session = context.new_cdp_session(tab)
        session.send("HeapProfiler.collectGarbage")
        heaps.append(session.send("Runtime.getHeapUsage")["usedSize"] / 1e6)
        context.close()
    return {
        "KB": round(file.stat().st_size / 1e3),
        "first paint, s": round(statistics.median(paints) / 1e3, 2),
        "a switch, ms": {view: round(statistics.median(each)) for view, each in switches.items()},
        "heap, MB": round(statistics.median(heaps), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--results", type=Path, nargs="*", default=[])
    parser.add_argument("--keep", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as top, sync_playwright() as playwright:
        folder = words.keep or Path(top)
        folder.mkdir(parents=True, exist_ok=True)
        pages = {
            "135 runs of the examples": examples_page(Path(top, "examples")),
            "3,600 runs": made_page(20, 60, 3),
            "100,000 runs": made_page(500, 20, 10),
            **{str(each): report([each], read_results(each)) for each in words.results},
        }
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        measured = {}
        for number, (name, content) in enumerate(pages.items()):
            (file := folder / f"page-{number}.html").write_bytes(content)
            measured[name] = measure(browser, file, words.times)
        browser.close()
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
