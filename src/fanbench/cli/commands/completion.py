"""`fanbench completion bash|zsh|fish`."""

from __future__ import annotations

import click

from fanbench.cli.command import Command

__all__ = ["completion"]


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes fanbench commands and options in a shell.

    \b
    Where to install it:
      bash  ~/.local/share/bash-completion/completions/fanbench  (bash 4.4 or newer)
      zsh   a file named _fanbench in a folder of $fpath, before compinit runs
      fish  ~/.config/fish/completions/fanbench.fish

    \b
    Examples:
      fanbench completion bash > ~/.local/share/bash-completion/completions/fanbench
      fanbench completion zsh > ~/.zfunc/_fanbench
      fanbench completion fish > ~/.config/fish/completions/fanbench.fish
      eval "$(fanbench completion bash)"    for this shell only
    """
    from click.shell_completion import get_completion_class

    from fanbench.cli.app import root

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    complete = kind(root, {}, "fanbench", "_FANBENCH_COMPLETE")
    # Not `source()`: it runs bash to see its version, and prints messages into the script.
    click.echo(complete.source_template % complete.source_vars())
