"""The part of `fanbench.operations.api.Api` that a sweep must leave alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fanbench.wire.messages import IntrospectTokenResponse, Leaderboard, ModelProxyToken, Task

__all__ = ["OtherCalls"]


class OtherCalls:
    """Calls that a sweep does not make: they fail the test."""

    def list_tasks(self, *, regex: str | None = None, status: str | None = None) -> AsyncIterator[Task]:
        raise AssertionError("list_tasks")

    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task:
        raise AssertionError("publish_task")

    async def delete_task(self, task: str) -> None:
        raise AssertionError("delete_task")

    async def create_proxy_token(self) -> ModelProxyToken:
        raise AssertionError("create_proxy_token")

    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard:
        raise AssertionError("leaderboard")

    async def introspect_token(self, token: str) -> IntrospectTokenResponse:
        raise AssertionError("introspect_token")
