"""Questions to the user. Elsewhere than on a terminal a missing answer is an error that names the flag."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fanbench.cli.output import table
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.wire.messages import BenchmarkModel

__all__ = ["confirmed", "is_terminal", "pick_models", "read_line"]

_PAGE = 20
_WIDEST_MODALITY = 20


def is_terminal() -> bool:
    """Whether somebody is there to read a question and to answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_line(prompt: str) -> str | None:
    """One line of stdin, `None` at its end. The question goes to stderr: stdout is for data."""
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        click.echo(err=True)  # nobody has ended the question's line
        return None
    return line.strip()


def confirmed(question: str, *, yes: bool, default: bool = True) -> bool:
    """The user's answer; `yes` (-y) is one.

    Raises:
        UsageError: nobody is there to answer.
    """
    if yes:
        return True
    if not is_terminal():
        raise UsageError(f"{question} There is no terminal to answer on.", hint="Pass -y to say yes.")
    answer = read_line(f"{question} [{'Y/n' if default else 'y/N'}] ")
    if answer is None:
        return False
    return default if not answer else answer.lower() in ("y", "yes")


# --- The picker of models ------------------------------------------------------------------------------------


def pick_models(available: Sequence[BenchmarkModel]) -> list[str]:
    """The slugs of the models that the user picks by number, from pages of 20.

    Raises:
        UsageError: there are none, or no answer, or it is not a list of numbers from the page.
    """
    if not available:
        raise UsageError("This server has no models to run on.", hint="See: fanbench tasks models")
    page, last = 0, (len(available) - 1) // _PAGE
    while True:
        _show(available, page)
        answer = _answer(page, last)
        if answer == "n" and page < last:
            page += 1
        elif answer == "p" and page > 0:
            page -= 1
        else:
            return _picked(answer, available)


def _show(available: Sequence[BenchmarkModel], page: int) -> None:
    from fanbench.operations.models import modalities, model_slug

    start, end = page * _PAGE, min((page + 1) * _PAGE, len(available))
    width = len(str(len(available)))
    rows = [
        (
            f"{number:>{width}}. {model.display_name}",
            model_slug(model),
            _shortened(modalities(model.version)),
        )
        for number, model in enumerate(available[start:end], start + 1)
    ]
    click.echo(f"\nShowing {start + 1}-{end} of {len(available)} models available:\n", err=True)
    for line in table(("Model", "Slug", "Modality"), rows, (0, 0, 0)):
        click.echo(line, err=True)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST_MODALITY else f"{text[: _WIDEST_MODALITY - 1]}…"


def _answer(page: int, last: int) -> str:
    moves = [text for text, there in (("'n' = next", page < last), ("'p' = previous", page > 0)) if there]
    if last:
        click.echo(f"[Page {page + 1}/{last + 1}]", err=True)
    answer = read_line(f"\n{', '.join(['Enter model numbers (comma-separated)', *moves])}: ")
    if answer is None:
        raise UsageError(
            "No model is given, and there is no answer on stdin.",
            hint="Name one or more with -m/--model; see: fanbench tasks models",
        )
    return answer.lower()


def _picked(answer: str, available: Sequence[BenchmarkModel]) -> list[str]:
    from fanbench.operations.models import model_slug

    numbers = [part.strip() for part in answer.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= len(available) for part in numbers):
        raise UsageError(
            f"'{answer}' is not a valid choice.", hint="Answer with numbers from the list, as in 1,3,4"
        )
    return [model_slug(available[int(part) - 1]) for part in numbers]
