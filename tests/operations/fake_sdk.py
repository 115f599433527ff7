"""A small stand-in for the SDK that is imported quickly and calls no model, for processes that run task files."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["install_fake_sdk", "task_text"]

_SDK = """
import json, os
import dotenv

# As the real one does: the nearest .env above this file beats the environment.
dotenv.load_dotenv(dotenv.find_dotenv(), override=True)
llm = os.environ["LLM_DEFAULT"]
judge_llm = os.environ.get("LLM_DEFAULT_JUDGE", os.environ["LLM_DEFAULT_EVAL"])


class Task:
    def __init__(self, name, function):
        self.name, self.function = name, function

    def run(self, llm):
        run = {"taskVersion": {"name": self.name}, "modelVersion": {"slug": llm}}
        try:
            run |= {"state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"}
            run |= {"results": [{"numericResult": {"value": self.function(llm)}}]}
        except ValueError as error:
            run |= {"state": "BENCHMARK_TASK_RUN_STATE_ERRORED", "errorMessage": f"ValueError: {error}"}
        with open(f"{self.name}.run.json", "w") as file:
            json.dump(run, file)


def task(name):
    return lambda function: Task(name, function)
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
        f"@kbench.task(name={name!r})\ndef one(llm):\n{lines}\n\none.run(kbench.llm)\n{after}\n"
    )
