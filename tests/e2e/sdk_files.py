"""The task files that come with the SDK's source distribution, fetched from the package index when they are needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

__all__ = ["NotFetched", "sdk_task_files"]

# The golden tests call tasks through pytest. This decorator calls them at once, through both clients of the SDK.
_CALL_AT_ONCE = """
def benchmark_test(include=(), exclude=(), verify_fn=None, **arguments):
    def call(task):
        for api in ("openai", "genai"):
            task.run(kbench.kaggle.load_model(os.environ["LLM_DEFAULT"], api=api), **arguments)
        return task
    return call
"""
_BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


class NotFetched(Exception):
    """The source distribution cannot be had; the message says why."""


def sdk_task_files(cache: Path) -> list[Path]:
    """All task files of the installed version of the SDK: examples, guides, golden tests, and its texts' blocks.

    They are kept below `cache`.

    Raises:
        NotFetched: The package index cannot be reached, or has no source distribution.
    """
    number = version("kaggle-benchmarks")
    folder = cache / f"kaggle-benchmarks-{number}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            source = _fetch(cache, number)
            made = _task_files(source)
            folder.mkdir()
            for name, text in made.items():
                (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.py"))


def _fetch(cache: Path, number: str) -> Path:
    """The unpacked source distribution."""
    options = ["--quiet", "--retries", "1", "--no-deps", "--no-binary", "kaggle-benchmarks"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(cache)]
    ended = subprocess.run([*command, f"kaggle-benchmarks=={number}"], capture_output=True, text=True)
    archives = list(cache.glob(f"kaggle_benchmarks-{number}.tar.gz"))
    if ended.returncode or not archives:
        raise NotFetched(f"kaggle-benchmarks {number} has no source here: {ended.stderr[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(cache / "source", filter="data")
    return cache / "source" / f"kaggle_benchmarks-{number}"


def _task_files(source: Path) -> dict[str, str]:
    """The texts of the task files by name."""
    texts: dict[str, str] = {}
    for kind in ("examples", "guides"):
        for path in sorted((source / "documentation" / kind).glob("*.py")):
            texts[f"{kind}-{path.name}"] = path.read_text(encoding="utf-8")
    for path in sorted((source / "golden_tests").glob("test_*.py")):
        texts[f"golden-{path.name}"] = path.read_text(encoding="utf-8")
    golden = source / "golden_tests" / "test_cookbook_examples.py"
    texts["golden-called.py"] = _called_at_once(golden)
    for path in sorted([*source.glob("*.md"), *source.glob("golden_tests/*.md")]):
        for number, block in enumerate(_BLOCK.findall(path.read_text(encoding="utf-8")), 1):
            if "task(" in block and (".run(" in block or ".evaluate(" in block):
                known = "" if "import kaggle_benchmarks" in block else "import kaggle_benchmarks as kbench\n"
                texts[f"{path.stem}-{number}.py"] = known + block
    return texts


def _called_at_once(golden: Path) -> str:
    """The golden tests as a task file, which also finds their fixtures as a notebook."""
    text = golden.read_text(encoding="utf-8").replace("__file__", repr(str(golden)))
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    (decorator,) = [node for node in functions if node.name == "benchmark_test"]
    return "".join([*lines[: decorator.lineno - 1], _CALL_AT_ONCE, *lines[decorator.end_lineno :]])
