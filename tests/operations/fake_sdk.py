"""A small stand-in for the SDK that is imported quickly, for processes that run task files, and for local servers."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["install_fake_sdk", "task_text"]

_SDK = """
import json, os, types, urllib.request
import dotenv

# As the real one does: the nearest .env above this file beats the environment.
dotenv.load_dotenv(dotenv.find_dotenv(), override=True)


class Model(str):
    @property
    def name(self):
        return str(self)

    def prompt(self, text):
        print("PROMPT", text, flush=True)
        body = {"model": self, "messages": [{"role": "user", "content": text}]}
        key = {"Authorization": "Bearer " + os.environ["MODEL_PROXY_API_KEY"], "Content-Type": "application/json"}
        url = os.environ["MODEL_PROXY_URL"] + "/openapi/chat/completions"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), key)) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]


def load_default_model():
    return Model(os.environ["LLM_DEFAULT"])


def load_judge_model():
    return Model(os.environ.get("LLM_DEFAULT_JUDGE", os.environ["LLM_DEFAULT_EVAL"]))


def assert_in(part, text, expectation):
    print("PASSED" if part in text else "FAILED", expectation, flush=True)


# What a local server changes in each of its runs.
kaggle = types.SimpleNamespace(
    load_default_model=load_default_model, load_judge_model=load_judge_model, load_model=Model
)
assertions, config = types.SimpleNamespace(assert_in=assert_in), types.SimpleNamespace()
if "LLM_DEFAULT" in os.environ:
    llm, judge_llm = load_default_model(), load_judge_model()


active = []  # the runs in progress; a run within another one is recorded as its part, too


class Task:
    def __init__(self, name, function, store_run):
        self.name, self.function, self.store_run = name, function, store_run

    def run(self, llm):
        run = {"taskVersion": {"name": self.name}, "modelVersion": {"slug": llm}}
        run |= {"pyRunId": self.name, "startTime": "2026-01-01T00:00:00Z", "subruns": []}
        if active:
            active[-1]["subruns"].append(run)
        active.append(run)
        try:
            run |= {"state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"}
            run |= {"results": [{"numericResult": {"value": self.function(llm)}}]}
        except ValueError as error:
            run |= {"state": "BENCHMARK_TASK_RUN_STATE_ERRORED", "errorMessage": f"ValueError: {error}"}
        active.pop()
        value = run.get("results", [{}])[0].get("numericResult", {}).get("value")
        if value != value:
            print("WARNING:kaggle_benchmarks.tasks:Failed to store run Run #1: Couldn't parse NaN.", flush=True)
        elif self.store_run:
            with open(f"{self.name}.run.json", "w") as file:
                json.dump(run, file)
        return run


def task(name, store_task=True, store_run=True):
    return lambda function: Task(name, function, store_run)
"""


def install_fake_sdk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the stand-in where processes find it first, and return the folder for task files."""
    package = folder / "site" / "kaggle_benchmarks"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_SDK)
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    return folder


def task_text(body: str = "return 1.0", *, name: str = "One", before: str = "", after: str = "") -> str:
    """A task file whose task does `body`."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return (
        f"import os, sys, time\nimport kaggle_benchmarks as kbench\n{before}\n"
        f"@kbench.task(name={name!r})\ndef one(llm):\n    assert llm\n{lines}\n\none.run(kbench.llm)\n{after}\n"
    )
