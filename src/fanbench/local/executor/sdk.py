"""The real SDK `kaggle-benchmarks`, imported once and pointed at a run's model afterwards.

The SDK reads its environment when it is imported. A process forked after that import must therefore recreate what
depends on the run: the models behind `kbench.llm`, `judge_llm` and `llms`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanbench.local.aliases import ALIASES_VARIABLE, best_alias, unknown_model
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
    with without_env_file():
        import kaggle_benchmarks
    return Kit(kaggle_benchmarks, make_shell(), recorders)


@contextmanager
def without_env_file() -> Iterator[None]:
    """Import the SDK in this block to keep it from loading a `.env` file.

    At its import it loads the nearest `.env` above its own files and lets it override the environment. In a run
    that would replace the model and its fresh credentials by whatever somebody once wrote down.
    """
    import dotenv

    find, dotenv.find_dotenv = dotenv.find_dotenv, lambda *_args, **_options: ""
    try:
        yield
    finally:
        dotenv.find_dotenv = find


def point_at_environment(sdk: Any) -> None:
    """Create the models that the current environment names."""
    models = sdk.kaggle
    sdk.config.continue_with_exceptions = True
    sdk.llm = models.load_default_model()
    judge = os.environ.get("LLM_DEFAULT_EVAL")
    sdk.judge_llm = sdk.llm if judge == os.environ["LLM_DEFAULT"] else models.load_judge_model()
    available = [name for name in os.environ.get("LLMS_AVAILABLE", "").split(",") if name]
    aliases = [alias for alias in os.environ.get(ALIASES_VARIABLE, "").split(",") if alias]
    sdk.llms = LazyModels(available, models.load_model, aliases)
    if (numpy := sys.modules.get("numpy")) is not None:
        # Otherwise all forks of the same parent would draw the same "random" numbers.
        numpy.random.seed()


def make_shell() -> Any:
    """An IPython shell without history, colours or prompts. `displayhook.show` receives what cells display."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Display(DisplayHook):  # type: ignore[misc]
        def __call__(self, result: object = None) -> None:
            if result is not None:
                self.show(result)

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    shell = InteractiveShell.instance(config=config, displayhook_class=Display)
    shell.register_magic_function(_choose, "line", "choose")
    return shell


def _choose(line: str) -> None:
    """`%choose TASK`: as on Kaggle, keep only this task's files in the working folder."""
    from IPython.core.getipython import get_ipython
    from kaggle_benchmarks.utils import normalize_name

    word = line.strip()
    task = get_ipython().user_ns.get(word)
    name = normalize_name(getattr(task, "name", word))
    runs = sorted(Path().glob("*.run.json"), key=lambda path: path.stat().st_mtime)
    chosen = [path for path in runs if path.name.startswith(f"{name}-")][-1:]
    keep = {*chosen, Path(f"{name}.task.json")}
    for path in [*runs, *Path().glob("*.task.json")]:
        if path in keep:
            print(f"Kept: {path.name}")  # noqa: T201
        else:
            path.unlink(missing_ok=True)
