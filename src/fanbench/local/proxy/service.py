"""Authorizes, prepares, answers and counts requests to models, through either API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from fanbench.local.clock import now
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import Embedded, ModelSpec, prices
from fanbench.local.models.pool import ModelPool
from fanbench.local.store import Store, TokenRow, UsageRow


class ModelProxy:
    def __init__(self, store: Store, pool: ModelPool) -> None:
        self._store = store
        self._pool = pool

    async def authorize(self, key: str) -> TokenRow:
        """Look up the token with this key.

        Raises:
            ModelFault: The key is unknown or has expired.
        """
        token = await self._store.find_token(key) if key else None
        if token is None:
            raise ModelFault("the Model Proxy does not know this key", status=401)
        if token.expires <= now():
            raise ModelFault(
                "this Model Proxy key has expired; run `fanbench auth -y` to get a new one", status=401
            )
        return token

    def find(self, name: str) -> ModelSpec:
        """Raises ModelFault if the model does not exist."""
        spec = self._pool.catalog.find(name)
        if spec is None:
            known = ", ".join(model.slug for model in self._pool.catalog.model) or "none"
            raise ModelFault(f"unknown model {name!r}; the models are: {known}", status=404)
        return spec

    async def complete(self, token: TokenRow, spec: ModelSpec, request: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        answer = await self._pool.engine(spec).complete(prepare(spec, request))
        answer["model"] = spec.slug
        answer["usage"] = await self._count(token, spec, answer.get("usage"), time.monotonic() - start)
        return answer

    async def stream(
        self, token: TokenRow, spec: ModelSpec, request: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        start = time.monotonic()
        async for chunk in self._pool.engine(spec).stream(prepare(spec, request)):
            chunk["model"] = spec.slug
            if chunk.get("usage"):
                chunk["usage"] = await self._count(token, spec, chunk["usage"], time.monotonic() - start)
            yield chunk

    async def _count(
        self, token: TokenRow, spec: ModelSpec, usage: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        """Record the usage of a request. Return it with the cost and latency that the SDK reads."""
        usage = dict(usage or {})
        tokens_in, tokens_out = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        usage |= {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        usage["total_tokens"] = usage.get("total_tokens") or tokens_in + tokens_out
        usage["total_backend_latency_ms"] = round(seconds * 1000)
        cost = usage.get("cost") or _cost(spec, tokens_in, tokens_out)
        if cost is not None:
            usage["cost"] = cost
        else:
            usage.pop("cost", None)
        await self._store.add_usage(
            UsageRow(
                token_id=token.id,
                model=spec.slug,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                cost_nanodollars=sum(int(value or 0) for value in (cost or {}).values()),
            )
        )
        return usage


def _cost(spec: ModelSpec, tokens_in: int, tokens_out: int) -> dict[str, int] | None:
    """The cost in nanodollars: a price of $1 per million tokens is 1000 nanodollars per token."""
    price = prices(spec)
    if price is None:
        return None
    return {
        "input_tokens_cost_nanodollars": round(tokens_in * price[0] * 1000),
        "output_tokens_cost_nanodollars": round(tokens_out * price[1] * 1000),
    }


def prepare(spec: ModelSpec, request: dict[str, Any]) -> dict[str, Any]:
    """The request for the engine, without the nulls that the SDK writes for unset parameters."""
    prepared = {key: value for key, value in request.items() if value is not None}
    if isinstance(spec, Embedded):
        # At llama.cpp's default of 0.8, "What is 2 + 2?" passes 20 of 30 times; greedily 30 of 30.
        prepared.setdefault("temperature", 0)
    if spec.max_tokens and "max_completion_tokens" not in prepared:
        prepared.setdefault("max_tokens", spec.max_tokens)
    if spec.stop:
        asked = prepared.get("stop", [])
        prepared["stop"] = [*([asked] if isinstance(asked, str) else asked), *spec.stop]
    return prepared
