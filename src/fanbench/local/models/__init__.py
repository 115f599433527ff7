"""The models behind the Model Proxy: three kinds with one narrow interface.

Each kind has a module (`embedded`, `upstream`, `scripted`) with its entry in `models.toml`, a `BaseSpec`, and its
engine, a `ModelEngine`. `catalog` reads and writes `models.toml`, `pool` shares and closes the engines, and
`recordings` keeps what they answer, or answers instead of them. Requests and answers are OpenAI chat completions as
plain dictionaries: llama.cpp, vLLM, Ollama and the vendors understand them, and the SDK sends them.

To add a kind of model: write a module with a subclass of `BaseSpec`, which defines what is particular to the kind,
and an engine for its `make_engine`; then add the class to `ModelSpec` in `catalog`. For `fanbench models add`, write
a function in `provision` that makes its entry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

__all__ = ["UNREACHABLE", "BaseSpec", "Modality", "ModelEngine", "ModelFault"]


Modality = Literal["text", "image", "audio", "video", "file"]
"""What requests may contain; a file is for instance a PDF."""

UNREACHABLE = 502
"""The status if what is behind a model failed, and not the request."""


class ModelFault(Exception):
    """A model could not answer. `status` is the HTTP status for the caller."""

    def __init__(self, message: str, *, status: int = UNREACHABLE, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class ModelEngine:
    """Answers the requests to one model. An engine that takes no memory and holds nothing open leaves out the rest."""

    busy = 0
    """The number of requests in progress."""

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole answer, a `chat.completion`.

        Raises:
            ModelFault: The model cannot answer.
        """
        raise NotImplementedError

    def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as `chat.completion.chunk`s, the last with `usage`. Raises what `complete` raises."""
        raise NotImplementedError

    async def unload(self, idle: float) -> None:
        """Release the memory of a model that has not been used for `idle` seconds; it is loaded again on demand."""

    async def close(self) -> None:
        """Release everything, including the memory."""


class BaseSpec(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="kind",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One model in `models.toml`. Subclasses are the kinds: each adds its fields, and overrides what differs."""

    free: ClassVar[bool] = True
    """Whether a model without prices costs nothing; otherwise its cost is unknown."""
    open_ended: ClassVar[bool] = False
    """Whether a model without `modalities` gets requests with any."""
    recorded: ClassVar[bool] = False
    """Whether `serve --record` and `--replay` are for this kind: its answers cost time or money, or may differ."""
    takes_efforts: ClassVar[bool] = False
    """Whether models of this kind may have reasoning efforts."""
    tried: ClassVar[bool] = False
    """Whether `fanbench models add` sends the model a request, to see that it loads."""

    slug: str
    """`owner/name`, the name for the Model Proxy. The slug for the API is the part after the slash."""
    alias: list[str] = []
    """Further names by which tasks can ask for the model, or patterns of names, such as `*`."""
    name: str = ""
    """The name for people; if empty, the last part of the slug."""
    input_price: float | None = None
    """US dollars per million input tokens. If not given: free for models that run here, else unknown."""
    output_price: float | None = None
    modalities: list[Modality] = []
    """What the model takes. If not given: text; an endpoint is asked anything, and can refuse it itself."""
    license: str = ""
    efforts: list[str] = []
    """The reasoning efforts that runs on the model may have, such as low and high; `reasoning_effort` of requests."""
    max_tokens: int = 0
    """The most tokens of an answer if the request has no limit; 0 for the model's own limit."""
    stop: list[str] = []
    """Texts at which an answer ends, besides those in the request."""

    @property
    def source(self) -> str:
        """Where the answers come from, for people."""
        raise NotImplementedError

    @property
    def prices(self) -> tuple[float, float] | None:
        """US dollars per million tokens in and out; None if unknown."""
        if self.input_price is None and self.output_price is None:
            return (0.0, 0.0) if self.free else None
        return self.input_price or 0.0, self.output_price or 0.0

    def takes(self, modality: Modality) -> bool:
        return modality in self.modalities if self.modalities else modality == "text" or self.open_ended

    def check(self) -> None:
        """Check what the types of the fields do not.

        Raises:
            ValueError: A value is invalid; the message says which.
        """

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request for the engine, without the nulls that the SDK writes for unset parameters."""
        prepared = {key: value for key, value in request.items() if value is not None}
        if self.max_tokens and "max_completion_tokens" not in prepared:
            prepared.setdefault("max_tokens", self.max_tokens)
        if self.stop:
            asked = prepared.get("stop", [])
            prepared["stop"] = [*([asked] if isinstance(asked, str) else asked), *self.stop]
        return prepared

    def make_engine(self, log: Path) -> ModelEngine:
        """Create the engine, without loading anything yet. `log` is the file for the output of its processes.

        Raises:
            ModelFault: The server lacks something that the model needs.
        """
        raise NotImplementedError
