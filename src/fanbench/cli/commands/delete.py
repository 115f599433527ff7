"""`fanbench tasks delete`."""

from __future__ import annotations

from fanbench.cli.command import Settings, command
from fanbench.cli.options import task_names_argument, yes_option

__all__ = ["delete"]


@command()
@task_names_argument
@yes_option
def delete(settings: Settings, task_names: tuple[str, ...], yes: bool) -> None:
    """Delete tasks with all their runs and outputs.

    Works on the local server; Kaggle has no API for it yet.

    \b
    Examples:
      fanbench tasks delete my-task --local
      fanbench tasks delete first-task second-task --local -y
    """
    from fanbench.cli.views.delete import confirm_and_delete

    confirm_and_delete(settings, task_names, yes=yes)
