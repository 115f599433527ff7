"""`fanbench quota`."""

from __future__ import annotations

from fanbench.cli.command import Settings, command
from fanbench.cli.session import call

__all__ = ["quota"]


@command(csv_flag=True)
def quota(settings: Settings) -> None:
    """Show how much of your quotas is used and how much remains.

    Quotas limit the number of task runs per day, and what model calls through the Model Proxy may cost. With -v, only
    the latter are printed; --format csv has all, as numbers.

    \b
    Examples:
      fanbench quota
      fanbench quota --format json
    """
    from fanbench.cli.views.quota import show_quotas
    from fanbench.operations.quota import fetch_quotas

    show_quotas(settings.output, call(settings, fetch_quotas), as_kaggle=settings.csv)
