"""Groups whose commands are imported when they are called: `fanbench --help` imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["Entry", "LazyGroup", "show_help_if_alone"]


class Entry(NamedTuple):
    """Where a command is (`module:attribute`), what it does in a few words, and its other names."""

    target: str
    help: str
    aliases: tuple[str, ...] = ()

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


def show_help_if_alone(ctx: click.Context) -> None:
    """What a group does that is called without a command."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class LazyGroup(click.Group):
    """A group over a table of entries. Called alone, it shows its help."""

    def __init__(self, *args: Any, table: Mapping[str, Entry], **kwargs: Any) -> None:
        kwargs.setdefault("callback", click.pass_context(show_help_if_alone))
        kwargs["invoke_without_command"] = True
        super().__init__(*args, **kwargs)
        self.table = table
        self._aliases = {alias: name for name, entry in table.items() for alias in entry.aliases}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(self._aliases.get(cmd_name, cmd_name))
        return entry.load() if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(", ".join([name, *entry.aliases]), entry.help) for name, entry in self.table.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: completing a word imports no command."""
        from click.shell_completion import CompletionItem

        names = [(name, entry.help) for name, entry in self.table.items() if name.startswith(incomplete)]
        # Of the group's own options only: click's own would load every command.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=text) for name, text in names), *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = [*self.table, *self._aliases]
        if args and not args[0].startswith("-") and args[0] not in known:
            ctx.fail(f"No such command '{args[0]}'.{_closest(args[0], known)}")
        return super().resolve_command(ctx, args)


def _closest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1)
    return f" Did you mean '{found[0]}'?" if found else ""
