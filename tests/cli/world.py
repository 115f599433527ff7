"""A small Kaggle on a real socket: tasks, runs, logs and outputs that a command line can be tried on.

Unlike the simulated Kaggle of `fanbench.testing`, which follows a clock, it is driven by hand: a test edits the
JSON of its answers, replaces single answers byte by byte, and lets creations and runs end by changing `seconds`.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.wire.fake_server import Answer, FakeServer, Request, events, problem

__all__ = ["World", "run_zip"]

CREATION = "BENCHMARK_TASK_VERSION_CREATION_STATE_"
RUN = "BENCHMARK_TASK_RUN_STATE_"


def run_zip(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in {"one.run.json": "{}", **files}.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@dataclass
class World:
    """`seconds`: how long a creation or a run takes; `ends`: how a model's runs end."""

    seconds: float = 0.0
    #: Kaggle has no such call, the local server has.
    can_delete: bool = False
    ends: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[int, Answer] = field(default_factory=dict)
    outputs: dict[int, Answer] = field(default_factory=dict)
    #: What the run file of a model's runs holds.
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    board: list[dict[str, Any]] = field(default_factory=list)
    balances: list[dict[str, Any]] = field(default_factory=list)

    def add_task(self, slug: str, state: str = "COMPLETED", **fields: Any) -> None:
        self.tasks[slug] = {
            "slug": {"ownerSlug": "me", "taskSlug": slug, "versionNumber": 2},
            "url": f"/benchmarks/tasks/me/{slug}/2",
            "creationState": CREATION + state,
            "createTime": "2030-01-02T03:04:05.678Z",
            **fields,
        }

    def add_run(self, slug: str, model: str, state: str = "COMPLETED", **fields: Any) -> int:
        run_id = 10 + len(self.runs)
        run = {"id": run_id, "taskSlug": {"taskSlug": slug}, "modelVersionSlug": model, "state": RUN + state}
        self.runs.append({**run, "startTime": "2030-01-02T03:04:06Z", **fields})
        return run_id

    def add_model(self, slug: str, name: str, proxy: str = "") -> None:
        version = {"slug": slug, "allowModelProxy": True, "modelProxySlug": proxy or slug}
        version |= {
            "inputModalities": ["MODALITY_TEXT", "MODALITY_IMAGE"],
            "outputModalities": ["MODALITY_TEXT"],
        }
        self.models.append({"id": len(self.models), "slug": slug, "displayName": name, "version": version})

    def server(self) -> FakeServer:
        answers: dict[str, Callable[[Request], Answer]] = {
            "CreateBenchmarkTask": self._create,
            "GetBenchmarkTask": self._get,
            "ListBenchmarkTasks": lambda _: Answer({"tasks": list(self.tasks.values())}),
            "BatchScheduleBenchmarkTaskRuns": self._schedule,
            "ListBenchmarkTaskRuns": self._list_runs,
            "GetBenchmarkTaskRunLogs": self._logs,
            "DownloadBenchmarkTaskRunOutput": self._output,
            "PublishBenchmarkTask": self._publish,
            "ListBenchmarkModels": lambda _: Answer({"benchmarkModels": self.models}),
            "CreateDefaultModelProxyToken": self._token,
            "DeleteBenchmarkTask": self._delete,
            "IntrospectToken": lambda _: Answer({"active": True, "username": "me", "exp": 1900000000}),
            "GetBenchmarkLeaderboard": lambda _: Answer({"rows": self.board}),
            "GetBenchmarkTaskQuota": lambda _: Answer({"dailyQuotaUsed": 12, "totalDailyQuotaAllowed": 100}),
            "GetModelProxyQuotas": lambda _: Answer({"quotaBalances": self.balances}),
        }
        return FakeServer(answers)

    def add_row(self, model: str, name: str, **results: dict[str, Any]) -> None:
        """Of the leaderboard: a result a task, under the task's slug with underscores."""
        self.board.append(
            {
                "modelVersionSlug": model,
                "modelVersionName": name,
                "taskResults": [
                    {
                        "benchmarkTaskSlug": slug.replace("_", "-"),
                        "benchmarkTaskName": slug.replace("_", " ").title(),
                        "taskVersion": 3,
                        "result": result,
                    }
                    for slug, result in results.items()
                ],
            }
        )

    def _create(self, request: Request) -> Answer:
        slug = request.json["slug"]
        options = request.json.get("options", {})
        before = self.tasks.get(slug)
        self.add_task(
            slug, "RUNNING" if self.seconds else "COMPLETED", options=options, since=time.monotonic()
        )
        if before is not None:
            self.tasks[slug]["slug"]["versionNumber"] = before["slug"]["versionNumber"] + 1
        return Answer(self.tasks[slug])

    def _get(self, request: Request) -> Answer:
        task = self.tasks.get(request.json["slug"]["taskSlug"])
        if task is None:
            return problem(404, "No such task.")
        if "since" in task and time.monotonic() - task["since"] >= self.seconds:
            task["creationState"] = CREATION + self.ends.get("creation", "COMPLETED")
            task["creationErrorMessage"] = "" if "creation" not in self.ends else "It went wrong."
        return Answer(task)

    def _schedule(self, request: Request) -> Answer:
        slug = request.json["taskSlugs"][0]["taskSlug"]
        results: list[dict[str, Any]] = []
        for model in request.json["modelVersionSlugs"]:
            if any(self._in_flight(run, slug, model) for run in self.runs):
                results.append({"runSkippedReason": "already in flight"})
                continue
            self.add_run(slug, model, "RUNNING", since=time.monotonic())
            results.append({"runScheduled": True})
        return Answer({"results": results})

    def _in_flight(self, run: dict[str, Any], slug: str, model: str) -> bool:
        mine = run["taskSlug"]["taskSlug"] == slug and run["modelVersionSlug"] == model
        return mine and bool(run["state"] == f"{RUN}RUNNING")

    def _list_runs(self, request: Request) -> Answer:
        for run in self.runs:
            if "since" in run and time.monotonic() - run["since"] >= self.seconds:
                run["state"] = RUN + self.ends.get(run["modelVersionSlug"], "COMPLETED")
                run["endTime"] = "2030-01-02T03:04:08Z"
                if run["state"] == f"{RUN}ERRORED":
                    run["errorMessage"] = "Traceback\nValueError: no answer"
        slug = request.json["taskSlug"]["taskSlug"]
        return Answer({"runs": [run for run in reversed(self.runs) if run["taskSlug"]["taskSlug"] == slug]})

    def _logs(self, request: Request) -> Answer:
        run_id = request.json["runId"]
        if run_id in self.logs:
            return self.logs[run_id]
        run = self.runs[run_id - 10]
        if run["state"] == f"{RUN}QUEUED":
            return problem(404, "Not yet.")
        lines = [{"stream_name": "stdout", "time": 0.5, "data": f"hello from {run['modelVersionSlug']}\n"}]
        return events(*lines) if run["state"] == f"{RUN}RUNNING" else Answer(lines)

    def _output(self, request: Request) -> Answer:
        run_id = request.json["runId"]
        sources = {"__notebook__.ipynb": "{}"} if request.json.get("includeSource") else {}
        if run_id in self.outputs:
            return self.outputs[run_id]
        result = self.results.get(self.runs[run_id - 10]["modelVersionSlug"])
        named = {} if result is None else {"one.run.json": json.dumps(result)}
        return Answer(run_zip(**sources, **named), headers={"Content-Type": "application/zip"})

    def _publish(self, request: Request) -> Answer:
        task = self.tasks[request.json["slug"]["taskSlug"]]
        task["isPublic"] = True
        task["isBackingNotebookPublished"] = request.json.get("publishBackingNotebook", False)
        return Answer(task)

    def _delete(self, request: Request) -> Answer:
        if not self.can_delete:
            return problem(404, "No such call.")
        if self.tasks.pop(request.json["slug"]["taskSlug"], None) is None:
            return problem(404, "No such task.")
        return Answer({})

    def _token(self, _: Request) -> Answer:
        return Answer(
            {"token": "kg-secret-abcd", "baseUri": "https://proxy/models", "expiryTime": _in_two_hours()}
        )


def _in_two_hours() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 7200))


def bodies(server: FakeServer, call: str) -> list[Any]:
    return [json.loads(request.body) for request in server.calls(call)]
