"""The models behind the Model Proxy: three kinds with one narrow interface.

That interface is `Engine`. Requests and answers are OpenAI chat completions as plain dictionaries: llama.cpp, vLLM,
Ollama and the vendors understand them, and the SDK sends them. `catalog` reads `models.toml`; `pool` creates,
shares and closes engines; `embedded`, `upstream` and `scripted` are the kinds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

__all__ = ["UNREACHABLE", "Engine", "ModelFault"]


UNREACHABLE = 502
"""The status if what is behind a model failed, and not the request."""


class ModelFault(Exception):
    """A model could not answer. `status` is the HTTP status for the caller."""

    def __init__(self, message: str, *, status: int = UNREACHABLE, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class Engine(Protocol):
    @property
    def busy(self) -> int:
        """The number of requests in progress."""
        ...

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole answer, a `chat.completion`.

        Raises:
            ModelFault: The model cannot answer.
        """
        ...

    def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as `chat.completion.chunk`s, the last with `usage`. Raises what `complete` raises."""
        ...

    async def close(self) -> None: ...
