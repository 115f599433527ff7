"""What operations need of a client: the interface that `fanbench.Client` and the fakes of the tests share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fanbench.config import Config
from fanbench.wire.messages import (
    AddTasksResponse,
    BenchmarkModel,
    CancelRunsResponse,
    Citation,
    IntrospectTokenResponse,
    Leaderboard,
    LogEntry,
    ModelConfig,
    ModelProxyQuotas,
    ModelProxyToken,
    QueueStatus,
    RemoveTasksResponse,
    Run,
    ScheduleResult,
    Task,
    TaskQuota,
    UpdateTaskResponse,
)
from fanbench.wire.queue import Enqueue

if TYPE_CHECKING:
    from fanbench.wire.downloads import Downloaded

__all__ = ["Api"]


class Api(Protocol):
    """The calls that operations make. `fanbench.Client` documents what each does and raises."""

    config: Config

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task: ...
    async def get_task(self, task: str, *, version: int = 0, include_definition: bool = False) -> Task: ...
    def list_tasks(
        self,
        *,
        regex: str | None = None,
        status: str | None = None,
        owner: str = "",
        benchmark: str = "",
        version: int = 0,
        include_definition: bool = False,
    ) -> AsyncIterator[Task]: ...
    async def schedule_runs(
        self,
        task: str,
        models: Sequence[str] = (),
        *,
        version: int = 0,
        judge: str = "",
        effort: str = "",
        agents: Sequence[str] = (),
        enqueue: Enqueue | None = None,
    ) -> list[ScheduleResult]: ...
    async def queue_status(self) -> QueueStatus: ...
    async def cancel_runs(
        self,
        tasks: str | Sequence[str] = (),
        *,
        run_ids: Sequence[int] = (),
        model: str = "",
        effort: str = "",
        agent: str = "",
        include_active: bool = False,
    ) -> CancelRunsResponse: ...
    def list_runs(self, task: str, *, models: Sequence[str] = (), version: int = 0) -> AsyncIterator[Run]: ...
    def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]: ...
    async def download_output(
        self,
        run_id: int,
        target: Path,
        *,
        include_source: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Downloaded: ...
    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task: ...
    async def update_task(
        self,
        task: str,
        *,
        version: int = 0,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        provenance: str | None = None,
        citations: Sequence[Citation] | None = None,
    ) -> UpdateTaskResponse: ...
    async def delete_task(self, task: str) -> None: ...
    async def list_models(self) -> list[BenchmarkModel]: ...
    async def list_configs(self, version_ids: Sequence[int] = ()) -> list[ModelConfig]: ...
    async def add_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> AddTasksResponse: ...
    async def remove_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> RemoveTasksResponse: ...
    async def create_proxy_token(self) -> ModelProxyToken: ...
    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard: ...
    async def task_quota(self) -> TaskQuota: ...
    async def proxy_quotas(self) -> ModelProxyQuotas: ...
    async def introspect_token(self, token: str) -> IntrospectTokenResponse: ...
