"""Further names of models, for tasks that ask for a model by a name which this server does not have."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from fanbench._util.text import is_pattern

ALIASES_VARIABLE = "FANBENCH_MODEL_ALIASES"
"""The variable of a run's environment with all aliases, separated by commas."""


def best_alias(name: str, aliases: Iterable[str]) -> str | None:
    """The alias for `name`: itself, or else the longest pattern that matches, so that `*` is the last resort."""
    fitting = [
        alias for alias in aliases if alias == name or (is_pattern(alias) and fnmatchcase(name, alias))
    ]
    return max(fitting, key=lambda alias: (alias == name, len(alias)), default=None)


def unknown_model(name: str, models: Iterable[str], data_flag: str = "") -> str:
    """The message if a task asks for a model that the server has under no name.

    `data_flag` is the option that commands need to find the server's data folder.
    """
    known = [*models]
    if not known:
        command = f"fanbench models add smollm2{data_flag}"
        return f"Unknown model {name!r}: this server has no models. Run `{command}` to add one."
    return (
        f"Unknown model {name!r}. The models are {', '.join(known)}. "
        f'To have one of them answer instead, add alias = ["{name}"] to it in models.toml, '
        f"or start the server with `fanbench serve --model-alias '{name}={known[0]}'{data_flag}`."
    )
