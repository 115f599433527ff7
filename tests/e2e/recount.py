"""Counts what a sweep came to, from its run files alone. It shares no code with fanbench.

The statistics are those of scipy and statsmodels, on the values themselves where fanbench uses sums.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

__all__ = ["USAGE", "Recount", "known_sum", "result"]

Record = dict[str, Any]
USAGE = ("tokens_in", "tokens_out", "cost_usd", "judge_tokens_in", "judge_tokens_out", "judge_cost_usd")


class Recount:
    """The runs and items of the sweep in `root`, and what commands should say of them."""

    def __init__(self, root: Path) -> None:
        self.runs = list(_runs(root))
        _take_failed_assertions(self.runs)
        # The values of each item, by task and model.
        self.values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.names: dict[str, set[str]] = defaultdict(set)
        for run in self.runs:
            for item in run["items"]:
                if item["value"] is not None:
                    self.values[run["task"], run["model"]][item["item"]].append(item["value"])
                if item["item"] or item["value"] is not None:
                    self.names[run["task"]].add(item["item"])
        self.tasks = sorted({run["task"] for run in self.runs})
        self.models = sorted({run["model"] for run in self.runs})

    def total(self, name: str) -> float:
        """The sum over all runs, judges included, of what is known."""
        return sum(run[key] or 0 for run in self.runs for key in (name, f"judge_{name}"))

    def of(self, task: str, model: str) -> list[Record]:
        return [run for run in self.runs if (run["task"], run["model"]) == (task, model)]

    # --- Cells ----------------------------------------------------------------------------------------------

    def counts(self, task: str, runs: Sequence[Record]) -> Record:
        """How many attempts at items there should be in `runs`, and what became of them."""
        size = len(self.names[task]) or 1
        states: dict[str, int] = defaultdict(int)
        for run in runs:
            for item in run["items"]:
                # A run that left no items stands for all of them.
                is_whole = not item["item"] and item["value"] is None
                states[item["state"]] += size if is_whole else 1
        return {
            "items_planned": max(size * len(runs), sum(states.values())),
            "items_scored": states["scored"],
            "items_errored": states["errored"],
            "items_no_value": states["no_value"],
        }

    def figures(self, run: Record) -> Record:
        """What the record of one run says of its items."""
        counts = self.counts(run["task"], [run])
        found = {
            **counts,
            **dict.fromkeys(("low", "high", "method", "interval_by", "bound_low", "bound_high")),
        }
        scored = [item for item in run["items"] if item["value"] is not None]
        values = [item["value"] for item in scored]
        unit = all(0 <= value <= 1 for value in values)
        if len(scored) == 1 and scored[0]["low"] is not None:
            found |= {"low": scored[0]["low"], "high": scored[0]["high"], "method": "stated"}
            found["interval_by"] = "task"
        elif values and unit and (len(values) > 1 or scored[0]["kind"] == "boolean"):
            found["low"], found["high"] = wilson(np.mean(values), effective(values, len(values)))
            found |= {"method": "Wilson", "interval_by": "fanbench"}
        if counts["items_scored"] < counts["items_planned"] and unit:
            lacking = counts["items_planned"] - len(values)
            worst, best = [*values, *[0.0] * lacking], [*values, *[1.0] * lacking]
            found["bound_low"] = wilson(np.mean(worst), len(worst))[0]
            found["bound_high"] = wilson(np.mean(best), len(best))[1]
        return found

    def means(self, task: str, model: str) -> dict[str, float]:
        return {name: float(np.mean(its)) for name, its in self.values[task, model].items()}

    def bounded(self, task: str) -> bool:
        return all(
            0 <= value <= 1
            for model in self.models
            for values in self.values[task, model].values()
            for value in values
        )

    def booleans(self, task: str) -> bool:
        kinds = {item["kind"] for run in self.runs if run["task"] == task for item in run["items"]}
        return kinds - {None} == {"boolean"}

    # --- leaderboard -----------------------------------------------------------------------------------------

    def leaderboard(self, tasks: Sequence[str], k: int | None = None) -> list[Record]:
        """The records of all models, without ranks."""
        return [self._row(model, tasks, k) for model in self.models]

    def _row(self, model: str, tasks: Sequence[str], k: int | None) -> Record:
        lacking = [task for task in tasks if not self.values[task, model]]
        scored = [task for task in tasks if task not in lacking]
        runs = [run for task in tasks for run in self.of(task, model)]
        counts = [self.counts(task, self.of(task, model)) for task in tasks]
        planned, done = (sum(count[f"items_{name}"] for count in counts) for name in ("planned", "scored"))
        means = [[*self.means(task, model).values()] for task in scored]
        shares = [float(np.mean(its)) for its in means]
        row: Record = {
            "model": model,
            "score": np.mean(shares),
            "items_planned": planned,
            "items_scored": done,
            "tasks": len(scored),
            "lacking": lacking,
            "estimand": "these",
            "cost_usd": _mean_of_runs(runs, "cost_usd"),
            "seconds": _mean_of_runs(runs, "seconds"),
            **dict.fromkeys(("low", "high", "method", "bound_low", "bound_high", "pass_at_k", "pass_hat_k")),
            "k": k,
        }
        if not lacking:
            attempts = [sum(map(len, self.values[task, model].values())) for task in tasks]
            sizes = [effective(its, number) for its, number in zip(means, attempts, strict=True)]
            row["low"], row["high"] = stratified(shares, sizes)
            row["method"] = "Wilson"
        rates = [self._passes(task, model, k) for task in tasks if self.booleans(task)] if k else []
        if rates and None not in rates:
            row["pass_at_k"], row["pass_hat_k"] = np.mean(np.array(rates), axis=0)
        return row

    def _passes(self, task: str, model: str, k: int) -> tuple[float, float] | None:
        """By all choices of `k` attempts at each item."""
        its = self.values[task, model]
        if its.keys() != self.names[task] or any(len(values) < k for values in its.values()):
            return None
        chosen = [list(combinations(values, k)) for values in its.values()]
        at = [np.mean([max(choice) for choice in choices]) for choices in chosen]
        hat = [np.mean([min(choice) for choice in choices]) for choices in chosen]
        return float(np.mean(at)), float(np.mean(hat))

    # --- compare ---------------------------------------------------------------------------------------------

    def compare(self, first: str, second: str) -> tuple[list[Record], Record]:
        """The records of the tasks that are compared, and the one of all tasks together."""
        found, all_values = [], []
        for task in filter(self.bounded, self.tasks):
            a, b = self.means(task, first), self.means(task, second)
            common = sorted(a.keys() & b.keys())
            if not common:
                continue
            values = [b[name] - a[name] for name in common]
            all_values.append(values)
            found.append(
                {
                    "task": task,
                    "items": len(common),
                    "lacking": len(self.names[task]) - len(common),
                    "better": sum(value > 0 for value in values),
                    "worse": sum(value < 0 for value in values),
                    "difference": np.mean(values),
                    **paired([values]),
                    "flips": sorted((a[name], b[name]) for name in common if a[name] != b[name]),
                }
            )
        adjusted = multipletests([record["p"] for record in found], method="holm")[1]
        for record, p in zip(found, adjusted, strict=True):
            record["p_adjusted"] = p
        whole = {
            "items": sum(map(len, all_values)),
            "better": sum(record["better"] for record in found),
            "worse": sum(record["worse"] for record in found),
            "difference": np.mean([np.mean(values) for values in all_values]),
            **paired(all_values),
        }
        return found, whole


# --- Statistics ---------------------------------------------------------------------------------------------------


def wilson(share: float, n: float) -> tuple[float, float]:
    low, high = proportion_confint(share * n, n, alpha=0.05, method="wilson")
    return float(low), float(high)


def effective(means: Sequence[float], attempts: int) -> float:
    """How many independent attempts the means of items are worth (Korn and Graubard)."""
    n = len(means)
    mean = np.mean(means)
    if n == 1:
        return attempts
    if attempts == n or mean in (0, 1):
        return n
    spread = np.var(means, ddof=1)
    if spread == 0:
        return attempts
    shrunk = mean * (1 - mean) * n / spread * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, n - 1)) ** 2
    return float(np.clip(shrunk, n, attempts))


def stratified(shares: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    s, n = np.array(shares), np.array(sizes)
    smoothed = (s * n + 0.5) / (n + 1)
    spread = np.sum(smoothed * (1 - smoothed) / n)
    center = smoothed.mean()
    return wilson(s.mean(), center * (1 - center) * len(s) ** 2 / spread)


def paired(tasks: Sequence[Sequence[float]]) -> Record:
    """Student's t for the mean difference over tasks, with two items of +1 and -1 that all of them share.

    The shared items are one degree of freedom together.
    """
    shared, means, errors = 2 / len(tasks), [], []
    for values in tasks:
        weights = np.array([1.0] * len(values) + [shared / 2] * 2)
        d = np.array([*values, 1.0, -1.0])
        mean, n = np.average(d, weights=weights), weights.sum()
        means.append(mean)
        errors.append(np.sum(weights * (d - mean) ** 2) / (n - 1) / n)
    error = float(np.sqrt(np.sum(errors)) / len(tasks))
    t = stats.t(sum(len(values) - 1 for values in tasks) + 1)
    low, high = np.mean(means) + np.array([-1, 1]) * t.ppf(0.975) * error
    return {
        "low": max(-1.0, low),
        "high": min(1.0, high),
        "p": 2 * t.sf(abs(np.mean(means)) / error),
        "smallest": (t.ppf(0.975) + t.ppf(0.8)) * error,
    }


# --- Run files ----------------------------------------------------------------------------------------------------


def _runs(root: Path) -> Iterator[Record]:
    """Yield what each run folder, TASK/VERSION/MODEL/RUN, comes to, with its items."""
    repeats: dict[tuple[str, str], int] = defaultdict(int)
    folders = [path for path in root.glob("*/*/*/*") if path.is_dir()]
    for folder in sorted(folders, key=lambda path: int(path.name)):
        task, version, model, _ = folder.parts[-4:]
        files = {path: json.loads(path.read_text()) for path in folder.glob("*.run.json")}
        nested = {_identity(part) for file in files.values() for part in _nested(file)}
        mine = {path: file for path, file in files.items() if _slug(file["taskVersion"]["name"]) == task}
        # Where the task was only ever called by another one, its runs are rows, too.
        mine = {path: file for path, file in mine.items() if _identity(file) not in nested} or mine
        # A task may run on other models, too.
        mine = {
            path: file for path, file in mine.items() if file["modelVersion"]["slug"].endswith(f"/{model}")
        }
        first = next(iter(mine.values()))
        full = first["modelVersion"]["slug"]
        repeats[task, full] += 1
        yield {
            "task": task,
            "version": int(version),
            "model": full,
            "run_id": int(folder.name),
            "repeat": repeats[task, full],
            "state": "ERRORED" if any(map(_errored, mine.values())) else "COMPLETED",
            "rows": len(mine),
            "rows_errored": sum(map(_errored, mine.values())),
            "items": list(_items(mine)),
            "name": first["taskVersion"]["name"],
            "path": str(folder.relative_to(root)),
            "file": first,
            "seconds": _seconds(mine.values()),
            "started": _started(mine.values()),
            "latency": _latency(mine.values()),
            **_assertions(mine.values()),
            **_usage(mine.values()),
        }


def _items(files: dict[Path, Record]) -> Iterator[Record]:
    if len(files) > 1:
        yield from (_item(file, _row(path) or _prompt(file)) for path, file in files.items())
        return
    ((path, file),) = files.items()
    kind, value, _ = _outcome(file)
    names = [part["taskVersion"]["name"] for part in file.get("subruns", [])]
    for name in sorted(set(names), key=names.count, reverse=True):
        parts = [part for part in file["subruns"] if part["taskVersion"]["name"] == name]
        known = [float(_outcome(part)[1]) for part in parts if _outcome(part)[0] in ("boolean", "numeric")]
        if kind == "numeric" and known and abs(np.mean(known) - value) < 5e-4:
            yield from (_item(part, _prompt(part)) for part in parts)
            return
    yield _item(file, _row(path) or "")


def _item(file: Record, name: str) -> Record:
    kind, value, half = _outcome(file)
    state = "errored" if _errored(file) else "scored" if kind in ("boolean", "numeric") else "no_value"
    scored = state == "scored"
    return {
        "item": name,
        "state": state,
        "kind": None if state == "errored" else kind,
        "value": float(value) if scored else None,
        "low": value - half if scored and half is not None else None,
        "high": value + half if scored and half is not None else None,
        "started": _started([file]),
        "seconds": _seconds([file]),
        **_usage([file]),
    }


def result(run: Record) -> tuple[str | None, Any, float | None]:
    """The kind and the value of a run, and the half-width that its task stated."""
    if run["rows"] == 1:
        kind, value, half = _outcome(run["file"])
        whole = run["items"][0]
        return (
            (None, None, None) if len(run["items"]) == 1 and whole["value"] is None else (kind, value, half)
        )
    values = [item["value"] for item in run["items"] if item["value"] is not None]
    return ("numeric", float(np.mean(values)), None) if values else (None, None, None)


def known_sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _take_failed_assertions(runs: Iterable[Record]) -> None:
    """False as the result of a task that returns numbers is a failed assertion, and no value."""
    numeric = {run["task"] for run in runs for item in run["items"] if item["kind"] == "numeric"}
    for run in runs:
        for item in run["items"]:
            if run["task"] in numeric and item["kind"] == "boolean" and run["rows"] == len(run["items"]):
                item |= {"value": None, "state": "no_value"}


def _outcome(file: Record) -> tuple[str | None, Any, float | None]:
    results = file.get("results", [])
    if not results:
        return None, None, None
    result = next((each for each in results if each["type"] == "AGGREGATED"), results[0])
    if "numericResult" in result:
        number = result["numericResult"]
        return "numeric", float(number.get("value", 0)), number.get("confidenceInterval")
    if "dictResult" in result:
        return "dict", result["dictResult"], None
    return "boolean", result.get("booleanResult", False), None


def _errored(file: Record) -> bool:
    return str(file["state"]).endswith("_ERRORED")


def _row(path: Path) -> str:
    found = re.search(r"run_param_id_(\d+)_", path.name)
    return found[1] if found else ""


def _prompt(file: Record) -> str:
    """What tells items apart that have no row: all that was sent before the first answer."""
    contents = [
        each
        for talk in file["conversations"]
        for request in talk.get("requests", [])
        for each in request["contents"]
    ]
    sent = takewhile(lambda each: not each["role"].endswith("_ASSISTANT"), contents)
    return json.dumps([each["parts"] for each in sent])


def _identity(file: Record) -> tuple[str, str]:
    return file["pyRunId"], file["startTime"]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _nested(file: Record) -> Iterator[Record]:
    for part in file.get("subruns", []):
        yield part
        yield from _nested(part)


def _assertions(files: Iterable[Record]) -> Record:
    found = [
        each["status"]
        for file in files
        for run in (file, *_nested(file))
        for each in run.get("assertions", [])
    ]
    passed = sum(status.endswith("_PASSED") for status in found)
    return {"assertions_passed": passed, "assertions_total": len(found)}


def _requests(files: Iterable[Record]) -> Iterator[tuple[bool, Record]]:
    """Yield whether a request was one of the model under test, and its metrics."""
    for file in files:
        for run in (file, *_nested(file)):
            for talk in run.get("conversations", []):
                for request in talk.get("requests", []) or [{"contents": [], "metrics": talk["metrics"]}]:
                    names = [
                        each["senderName"]
                        for each in request["contents"]
                        if each["role"].endswith("_ASSISTANT")
                    ]
                    own = not names or names[-1] == file["modelVersion"]["slug"]
                    yield own, request.get("metrics", {})


def _usage(files: Iterable[Record]) -> Record:
    found: Record = {}
    requests = list(_requests(files))
    for role, prefix in ((True, ""), (False, "judge_")):
        metrics = [each for own, each in requests if own is role]
        for name, key in (("tokens_in", "inputTokens"), ("tokens_out", "outputTokens")):
            numbers = [each[key] for each in metrics if key in each]
            found[prefix + name] = sum(numbers) if numbers else None
        used = [each for each in metrics if each.get("inputTokens") or each.get("outputTokens")]
        costs = [cost for each in used if (cost := _cost(each)) is not None]
        found[prefix + "cost_usd"] = sum(costs) / 1e9 if costs and len(costs) == len(used) else None
    return found


def _cost(metrics: Record) -> int | None:
    keys = [key for key in metrics if key.endswith("CostNanodollars")]
    return sum(int(metrics[key]) for key in keys) if keys else None


def _latency(files: Iterable[Record]) -> float | None:
    found = [
        int(each["totalBackendLatencyMs"]) for _, each in _requests(files) if "totalBackendLatencyMs" in each
    ]
    return sum(found) / 1000 if found else None


def _seconds(files: Iterable[Record]) -> float:
    files = list(files)
    ends = [datetime.fromisoformat(file["endTime"]) for file in files]
    return (max(ends) - min(datetime.fromisoformat(file["startTime"]) for file in files)).total_seconds()


def _started(files: Iterable[Record]) -> str:
    first = min(datetime.fromisoformat(file["startTime"]) for file in files)
    return f"{first:%Y-%m-%dT%H:%M:%S}.{first.microsecond // 1000:03d}Z"


def _mean_of_runs(runs: Sequence[Record], name: str) -> float | None:
    """The mean over runs, if it is known of all."""
    values = [run[name] for run in runs]
    return None if None in values else sum(values) / len(runs)
