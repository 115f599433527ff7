"""The real SDK `kaggle-benchmarks`, imported once and pointed at a run's model afterwards.

The SDK reads its environment when it is imported. A process forked after that import must therefore recreate what
depends on the run: the models behind `kbench.llm`, `judge_llm` and `llms`.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fanbench._util.garbage import without_collection
from fanbench.local.aliases import ALIASES_VARIABLE, best_alias, unknown_model
from fanbench.local.executor.job import Choice
from fanbench.local.executor.notebook import Recorder, record_streams

FIXED_ENVIRONMENT = {
    # Without RUN, showing a Run needs jupyter_bokeh.
    "BENCHMARK_MODE": "RUN",
    "BENCHMARK_CONSOLE_UI": "true",
    "BENCHMARK_CONSOLE_COLOR": "false",
    # As on Kaggle: an exception in a task goes into the run file, and the notebook continues.
    "KAGGLE_KERNEL_RUN_TYPE": "batch",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class UnknownModel(KeyError):
    """A KeyError that is shown as its message, not as the quoted key."""

    def __str__(self) -> str:
        return str(self.args[0])


class LazyModels(dict[str, Any]):
    """`kbench.llms`: all models by name, each created when it is first looked up.

    Creating one costs an HTTP client and its TLS context; a task uses one or two of perhaps a hundred. Aliases can
    be looked up, too, but are not listed: a task that loops over all models should use each of them once.
    """

    def __init__(self, names: list[str], load: Callable[[str], Any], aliases: Sequence[str] = ()) -> None:
        super().__init__(dict.fromkeys(names))
        self._load = load
        self._aliases = aliases
        self._aliased: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if not super().__contains__(name):
            return self.__missing__(name)
        if super().__getitem__(name) is None:
            self[name] = self._load(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Any:
        if name not in self:
            raise UnknownModel(unknown_model(name, self))
        if name not in self._aliased:
            self._aliased[name] = self._load(name)
        return self._aliased[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or best_alias(str(name), self._aliases) is not None

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - dict.get would not load it

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def copy(self) -> dict[str, Any]:
        return dict(self.items())


@dataclass(frozen=True)
class Kit:
    """The parts of a run process that are slow to create."""

    sdk: Any
    shell: Any
    recorders: tuple[Recorder, Recorder]


def make_kit() -> Kit:
    """Import the SDK as on Kaggle: with the fixed environment, and without anybody's `.env` file."""
    recorders = record_streams()
    os.environ.update(FIXED_ENVIRONMENT)
    with importing_sdk():
        import kaggle_benchmarks
    return Kit(kaggle_benchmarks, make_shell(), recorders)


def find_modules_of_files() -> None:
    """Fill the cache of `inspect` for forks of this process, in which it takes half of a short run.

    The SDK asks in which line an assertion is. For that, `inspect` resolves the paths of all imported modules.
    """
    inspect.getmodule(inspect.currentframe())


@contextmanager
def importing_sdk() -> Iterator[None]:
    """Import the SDK in this block to keep it from loading a `.env` file, and to have it a third faster.

    At its import it loads the nearest `.env` above its own files and lets it override the environment. In a run
    that would replace the model and its fresh credentials by whatever somebody once wrote down.
    """
    import dotenv

    find, dotenv.find_dotenv = dotenv.find_dotenv, lambda *_args, **_options: ""
    try:
        with without_collection():
            yield
            # All of it stays: each search for garbage in it would take a tenth of the import.
            gc.freeze()
    finally:
        dotenv.find_dotenv = find


def point_at_environment(sdk: Any) -> None:
    """Create the models that the current environment names."""
    models = sdk.kaggle
    sdk.config.continue_with_exceptions = True
    sdk.llm = models.load_default_model()
    judge = os.environ.get("LLM_DEFAULT_EVAL")
    sdk.judge_llm = sdk.llm if judge == os.environ["LLM_DEFAULT"] else models.load_judge_model()
    sdk.llms = lazy_models(sdk)
    if (numpy := sys.modules.get("numpy")) is not None:
        # Otherwise all forks of the same parent would draw the same "random" numbers.
        numpy.random.seed()


def lazy_models(sdk: Any) -> LazyModels:
    """`kbench.llms` for the models and aliases that the current environment names."""
    available, aliases = (
        [word for word in os.environ.get(name, "").split(",") if word]
        for name in ("LLMS_AVAILABLE", ALIASES_VARIABLE)
    )
    return LazyModels(available, sdk.kaggle.load_model, aliases)


def make_shell() -> Any:
    """An IPython shell without history, colours or prompts. `displayhook.show` receives what cells display."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Display(DisplayHook):  # type: ignore[misc]
        def __call__(self, result: object = None) -> None:
            if result is not None:
                self.show(result)

    class Shell(InteractiveShell):  # type: ignore[misc]
        choice: Choice | None = None

        def register_magic_function(self, func: Any, *options: Any, **named: Any) -> None:
            # The SDK registers its own `%choose` if it is imported in a notebook.
            if getattr(func, "__name__", "") != "choose":
                super().register_magic_function(func, *options, **named)

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    shell = Shell.instance(config=config, displayhook_class=Display)
    shell.register_magic_function(partial(_choose, shell), "line", "choose")
    return shell


def _choose(shell: Any, line: str) -> None:
    """`%choose TASK`: as on Kaggle, keep only this task's last run in the working folder; and say what was removed.

    TASK is a variable that holds a task, or a task's name. If no task of this name has run, nothing is kept.
    """
    from kaggle_benchmarks.utils import normalize_name

    word = line.strip()
    if not word:
        sys.stderr.write("[fanbench] %choose needs the name of a task.\n")
        return
    name = getattr(shell.user_ns.get(word), "name", None)
    chosen = normalize_name(name if isinstance(name, str) else word)
    runs = sorted(Path().glob("*.run.json"), key=lambda path: path.stat().st_mtime)
    tasks = {path: _recorded_task(path) for path in runs}
    kept = next((path for path in reversed(runs) if normalize_name(tasks[path]) == chosen), None)
    keep = {Path(f"{chosen}.task.json"), *([] if kept is None else _files_of_run(kept))}
    for path in [*Path().glob("*.task.json"), *(file for run in runs for file in _files_of_run(run))]:
        if path in keep:
            print(f"Kept: {path.name}")  # noqa: T201
        else:
            path.unlink(missing_ok=True)
    kept_name = None if kept is None else tasks[kept]
    removed = {name: None for name in tasks.values() if name != kept_name}
    names = ", ".join(removed)
    if kept is None:
        what = f"no task of this name has run, so nothing is kept. Removed: {names or 'nothing'}"
        sys.stderr.write(
            f"[fanbench] %choose {word}: {what}. It takes the name of one task, or its variable.\n"
        )
    elif removed:
        sys.stderr.write(f"[fanbench] %choose {word}: removed the runs of {names}.\n")
    before = shell.choice.removed if shell.choice else []
    shell.choice = Choice(word=word, kept=kept_name, removed=[*before, *removed])


def _recorded_task(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["taskVersion"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _files_of_run(path: Path) -> list[Path]:
    """A run file and what the SDK 0.6.2 writes beside it: the run's trajectory and its result."""
    stem = path.name.removesuffix(".run.json")
    beside = [Path(f"{stem}.{kind}.json") for kind in ("run", "atif", "result")]
    return [file for file in beside if file.exists()]
