"""The calls of the API, and which of them may be sent twice."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["API_VERSION", "Call"]

#: The release of the package `kaggle` whose calls we follow. Kaggle names its newest one in a header.
API_VERSION = "2.2.5"

_TASKS = "benchmarks.BenchmarkTasksApiService"
_BENCHMARKS = "benchmarks.BenchmarksApiService"
_PROXY = "models.ModelProxyApiService"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API. Sending an `idempotent` call twice has the same effect as sending it once."""

    service: str
    method: str
    idempotent: bool = True

    @property
    def path(self) -> str:
        return f"/v1/{self.service}/{self.method}"


CREATE_TASK = Call(_TASKS, "CreateBenchmarkTask", idempotent=False)
GET_TASK = Call(_TASKS, "GetBenchmarkTask")
LIST_TASKS = Call(_TASKS, "ListBenchmarkTasks")
SCHEDULE_RUNS = Call(_TASKS, "BatchScheduleBenchmarkTaskRuns", idempotent=False)
# By tasks, a second call may reach runs that the first could not have: those that were scheduled in between.
CANCEL_RUNS = Call(_TASKS, "ApiCancelBenchmarkTaskRuns")
GET_QUEUE_STATUS = Call(_TASKS, "ApiGetBenchmarkSchedulerStatus")
LIST_RUNS = Call(_TASKS, "ListBenchmarkTaskRuns")
GET_LOGS = Call(_TASKS, "GetBenchmarkTaskRunLogs")
DOWNLOAD_OUTPUT = Call(_TASKS, "DownloadBenchmarkTaskRunOutput")
PUBLISH_TASK = Call(_TASKS, "PublishBenchmarkTask")
UPDATE_TASK = Call(_TASKS, "UpdateBenchmarkTask")
UPDATE_TASK_VERSION = Call(_TASKS, "UpdateBenchmarkTaskVersion")
# If the answer to a successful delete gets lost, a second delete fails with 404.
DELETE_TASK = Call(_TASKS, "DeleteBenchmarkTask", idempotent=False)
GET_TASK_QUOTA = Call(_TASKS, "GetBenchmarkTaskQuota")
LIST_MODELS = Call(_BENCHMARKS, "ListBenchmarkModels")
LIST_CONFIGS = Call(_BENCHMARKS, "ListBenchmarkModelVersionConfigs")
# If an answer gets lost, the second one counts the tasks among those that needed no change.
ADD_TASKS = Call(_BENCHMARKS, "AddTasksToBenchmark")
REMOVE_TASKS = Call(_BENCHMARKS, "RemoveTasksFromBenchmark")
GET_LEADERBOARD = Call(_BENCHMARKS, "GetBenchmarkLeaderboard")
CREATE_PROXY_TOKEN = Call(_PROXY, "CreateDefaultModelProxyToken")
GET_PROXY_QUOTAS = Call(_PROXY, "GetModelProxyQuotas")
INTROSPECT_TOKEN = Call("security.OAuthService", "IntrospectToken")
