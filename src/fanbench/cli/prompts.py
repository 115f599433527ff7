"""Questions to the user. Where nobody can answer, an error names the flag to use instead."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fanbench._util.text import draw_table
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.wire.messages import BenchmarkModel

__all__ = ["confirm", "is_terminal", "pick_models", "read_line"]

_PAGE = 20
_WIDEST_MODALITY = 20
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
# Seconds to wait for an answer in a pipe.
_MOMENT = 2.0
_MOST_MISTAKES = 3


def is_terminal() -> bool:
    """Whether someone is there to read a question and to answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_line(prompt: str) -> str | None:
    """One line of stdin, or None at its end. The prompt goes to stderr, because stdout is for data."""
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        click.echo(err=True)
        return None
    return line.strip()


def confirm(question: str, *, yes: bool, default: bool = True) -> bool:
    """Return the user's answer to a yes-or-no question. With `yes` (-y), it is not asked.

    Without a terminal, stdin may hold the answer, which must be a clear one (`echo y | fanbench …`).

    Raises:
        UsageError: There is no terminal to ask on, and no answer in stdin.
    """
    if yes:
        return True
    if is_terminal():
        answer = read_line(f"{question} [{'Y/n' if default else 'y/N'}] ")
        if answer is None:
            return False
        return _ANSWERS.get(answer.lower(), False) if answer else default
    answer = _piped_answer()
    if answer not in _ANSWERS:
        raise UsageError(f"{question} There is no terminal to answer on.", hint="Use -y to answer yes.")
    click.echo(f"{question} {answer}", err=True)
    return _ANSWERS[answer]


def _piped_answer() -> str:
    """The line in stdin, or nothing if none comes within a moment: a pipe may be open without a writer."""
    try:
        if sys.stdin.isatty() or not select.select([sys.stdin], [], [], _MOMENT)[0]:
            return ""
    except (OSError, ValueError):
        pass  # This stdin, or this system, cannot say whether there is something to read.
    return sys.stdin.readline().strip().lower()


def pick_models(available: Sequence[BenchmarkModel]) -> list[str]:
    """Let the user pick models by number, or all, from pages of 20, and return their slugs.

    Raises:
        UsageError: There are no models, or no answer, or three answers in a row could not be understood.
    """
    from fanbench.operations.models import model_slug

    if not available:
        raise UsageError(
            "This server has no models to run on.", hint="Run `fanbench tasks models` to list the models."
        )
    page, last, mistakes = 0, (len(available) - 1) // _PAGE, 0
    _show_page(available, page)
    while True:
        moves = [text for text, ok in (("'n' = next", page < last), ("'p' = previous", page > 0)) if ok]
        asked = ["Enter model numbers (comma-separated) or 'all'", *moves]
        answer = read_line(f"\n{', '.join(asked)}: ")
        if answer is None:
            raise UsageError(
                "No model was chosen, because stdin has ended.",
                hint="Name models with -m/--model; run `fanbench tasks models` to list them.",
            )
        move = {"n": 1, "p": -1}.get(answer.lower(), 0)
        if move and 0 <= page + move <= last:
            page += move
            _show_page(available, page)
            continue
        if answer.lower() == "all":
            return [model_slug(model) for model in available]
        numbers = [part.strip() for part in answer.split(",")]
        if all(part.isdecimal() and 1 <= int(part) <= len(available) for part in numbers):
            return [model_slug(available[int(part) - 1]) for part in numbers]
        mistakes += 1
        hint = "Enter numbers from the list, such as 1,3,4, or 'all'."
        if mistakes == _MOST_MISTAKES:
            raise UsageError(f"{answer!r} is not a valid choice.", hint=hint)
        click.echo(f"{answer!r} is not a valid choice. {hint}", err=True)


def _show_page(available: Sequence[BenchmarkModel], page: int) -> None:
    from fanbench.operations.models import modalities, model_slug

    start, end = page * _PAGE, min((page + 1) * _PAGE, len(available))
    width = len(str(len(available)))
    rows = []
    for number, model in enumerate(available[start:end], start + 1):
        kinds = modalities(model.version)
        shortened = kinds if len(kinds) <= _WIDEST_MODALITY else f"{kinds[: _WIDEST_MODALITY - 1]}…"
        rows.append((f"{number:>{width}}. {model.display_name}", model_slug(model), shortened))
    click.echo(f"\nShowing {start + 1}-{end} of {len(available)} models available:\n", err=True)
    for line in draw_table(("Model", "Slug", "Modality"), rows):
        click.echo(line, err=True)
    if len(available) > _PAGE:
        click.echo(f"[Page {page + 1}/{(len(available) - 1) // _PAGE + 1}]", err=True)
