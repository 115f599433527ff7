"""The models behind the Model Proxy: three kinds, one narrow interface.

`Engine` is the seam. A request and an answer are OpenAI chat completions as plain dictionaries: that is what
llama.cpp, vLLM, Ollama and the vendors speak, and what the SDK sends. `catalog` reads `models.toml`; `pool`
makes, shares and closes engines; `embedded`, `upstream` and `scripted` are the kinds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

__all__ = ["UNREACHABLE", "Engine", "ModelFault"]


UNREACHABLE = 502
"""The status of a fault of what is behind a model, not of the request."""


class ModelFault(Exception):
    """A model that could not answer. `status` is the HTTP status that the caller is given."""

    def __init__(self, message: str, *, status: int = UNREACHABLE, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class Engine(Protocol):
    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole answer, a `chat.completion`.

        Raises:
            ModelFault: the model cannot answer, and why.
        """
        ...

    def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as `chat.completion.chunk`s, the last with `usage`. Raises as `complete` does."""
        ...

    @property
    def busy(self) -> int:
        """Requests that are under way."""
        ...

    async def close(self) -> None: ...
