"""The messages of the API, requests and answers: one frozen struct per message.

Their fields follow the public package `kagglesdk` 0.1.38 (Apache-2.0). In JSON, field names are camelCase, fields
with default values are omitted, unknown fields of an answer are ignored, and enums are sent by their full names.
Short names and numbers of enums are understood, too: a server sends a number for a member that it has no name for.
The client decodes answers with these structs, and the local server decodes requests with them.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from fanbench.errors import UsageError

__all__ = [
    "BatchScheduleRequest",
    "BatchScheduleResponse",
    "BenchmarkModel",
    "BenchmarkResult",
    "CreateTaskRequest",
    "CreationState",
    "ErrorBody",
    "GetLeaderboardRequest",
    "IntrospectTokenRequest",
    "IntrospectTokenResponse",
    "Leaderboard",
    "LeaderboardRow",
    "ListModelsRequest",
    "ListModelsResponse",
    "ListRunsRequest",
    "ListRunsResponse",
    "ListTasksRequest",
    "ListTasksResponse",
    "LogEntry",
    "Message",
    "Modality",
    "ModelProxyQuotas",
    "ModelProxyToken",
    "ModelVersion",
    "NumericResult",
    "PublishTaskRequest",
    "QuotaBalance",
    "RefillPeriod",
    "Run",
    "RunRequest",
    "RunResult",
    "RunState",
    "ScheduleResult",
    "Task",
    "TaskOptions",
    "TaskQuota",
    "TaskRequest",
    "TaskResult",
    "TaskSlug",
    "TaskSource",
    "decode",
    "encode",
]

M = TypeVar("M", bound="Message")


class OpenEnum(enum.StrEnum):
    """An enum of names as sent, in the order of their numbers, beginning with `UNSPECIFIED`.

    The name without its prefix stands for the member, in upper or lower case. An unknown name is kept as a value of
    its own.
    """

    @classmethod
    def _missing_(cls, value: object) -> OpenEnum | None:
        if not isinstance(value, str):
            return None
        for member in cls:
            if value.upper() == member.label:
                return member
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    @classmethod
    def numbered(cls, number: int) -> str:
        """The name as sent of the member with this number; the number itself if there is none."""
        members = list(cls)
        return members[number].value if 0 <= number < len(members) else str(number)

    @property
    def label(self) -> str:
        """The name without the prefix of the enum: `COMPLETED`, `KERNEL_WITHOUT_RUN`."""
        prefix = type(self)["UNSPECIFIED"].value.removesuffix("UNSPECIFIED")
        return self.value.removeprefix(prefix)

    @property
    def known(self) -> bool:
        """Whether this version of fanbench knows the name: a newer server may send others."""
        return self in type(self).__members__.values()


class CreationState(OpenEnum):
    """The state of a task version's creation. Only completed versions can be run.

    A creation that is neither `pending` nor `ended` is in a state that does not say which; it may still go on.
    """

    UNSPECIFIED = "BENCHMARK_TASK_VERSION_CREATION_STATE_UNSPECIFIED"
    QUEUED = "BENCHMARK_TASK_VERSION_CREATION_STATE_QUEUED"
    RUNNING = "BENCHMARK_TASK_VERSION_CREATION_STATE_RUNNING"
    COMPLETED = "BENCHMARK_TASK_VERSION_CREATION_STATE_COMPLETED"
    ERRORED = "BENCHMARK_TASK_VERSION_CREATION_STATE_ERRORED"
    KERNEL_WITHOUT_RUN = "BENCHMARK_TASK_VERSION_CREATION_STATE_KERNEL_WITHOUT_RUN"
    VALIDATION_FAILED = "BENCHMARK_TASK_VERSION_CREATION_STATE_VALIDATION_FAILED"
    NO_MODEL_SPECIFIED = "BENCHMARK_TASK_VERSION_CREATION_STATE_NO_MODEL_SPECIFIED"
    VALIDATING = "BENCHMARK_TASK_VERSION_CREATION_STATE_VALIDATING"

    @property
    def pending(self) -> bool:
        return self in (CreationState.QUEUED, CreationState.RUNNING, CreationState.VALIDATING)

    @property
    def ended(self) -> bool:
        return self in (
            CreationState.COMPLETED,
            CreationState.ERRORED,
            CreationState.KERNEL_WITHOUT_RUN,
            CreationState.VALIDATION_FAILED,
            CreationState.NO_MODEL_SPECIFIED,
        )


class RunState(OpenEnum):
    """The state of a run; it is `terminal` once the run has completed or errored."""

    UNSPECIFIED = "BENCHMARK_TASK_RUN_STATE_UNSPECIFIED"
    QUEUED = "BENCHMARK_TASK_RUN_STATE_QUEUED"
    RUNNING = "BENCHMARK_TASK_RUN_STATE_RUNNING"
    COMPLETED = "BENCHMARK_TASK_RUN_STATE_COMPLETED"
    ERRORED = "BENCHMARK_TASK_RUN_STATE_ERRORED"
    SCORE_PENDING = "BENCHMARK_TASK_RUN_STATE_SCORE_PENDING"

    @property
    def terminal(self) -> bool:
        return self in (RunState.COMPLETED, RunState.ERRORED)


class Modality(OpenEnum):
    UNSPECIFIED = "MODALITY_UNSPECIFIED"
    TEXT = "MODALITY_TEXT"
    IMAGE = "MODALITY_IMAGE"
    VIDEO = "MODALITY_VIDEO"
    AUDIO = "MODALITY_AUDIO"


class TaskSource(OpenEnum):
    UNSPECIFIED = "BENCHMARK_TASK_VERSION_SOURCE_UNSPECIFIED"
    EVAL_SANDBOX = "EVAL_SANDBOX"
    WEB = "WEB"
    CLI = "CLI"


class RefillPeriod(OpenEnum):
    UNSPECIFIED = "REFILL_PERIOD_UNSPECIFIED"
    DAILY = "DAILY"
    MONTHLY = "MONTHLY"


class Message(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=False
):
    """The base of all messages."""


class ErrorBody(Message, frozen=True, omit_defaults=False):
    code: int
    message: str


# --- Tasks ---------------------------------------------------------------------------------------------------


class TaskSlug(Message, frozen=True):
    owner_slug: str = ""
    task_slug: str = ""
    version_number: int = 0


class TaskOptions(Message, frozen=True):
    dataset_data_sources: list[str] = []


class Task(Message, frozen=True):
    """The newest version of a task. Times are UTC; `error` is why the server refused a push."""

    slug: TaskSlug
    url: str = ""
    creation_state: CreationState = CreationState.UNSPECIFIED
    create_time: datetime | None = None
    creation_error_message: str = ""
    error: str = ""
    is_public: bool = False
    source_kernel_id: int = 0
    is_backing_notebook_published: bool = False
    options: TaskOptions | None = None
    source: TaskSource = TaskSource.UNSPECIFIED
    invalid_dataset_sources: list[str] = []

    @property
    def failure(self) -> str:
        """Why the server refused or could not create this version; empty if it gave no reason."""
        return self.error or self.creation_error_message


class CreateTaskRequest(Message, frozen=True):
    slug: str = ""
    text: str = ""
    options: TaskOptions | None = None


class TaskRequest(Message, frozen=True):
    """The request of GetBenchmarkTask, and of DeleteBenchmarkTask on the local server."""

    slug: TaskSlug = TaskSlug()


class PublishTaskRequest(Message, frozen=True):
    slug: TaskSlug = TaskSlug()
    publish_backing_notebook: bool = False


class ListTasksRequest(Message, frozen=True):
    regex_filter: str = ""
    status_filter: str = ""
    page_size: int = 0
    page_token: str = ""
    skip: int = 0


class ListTasksResponse(Message, frozen=True):
    tasks: list[Task] = []
    total_results: int = 0
    next_page_token: str = ""


# --- Runs ----------------------------------------------------------------------------------------------------


class RunResult(Message, frozen=True):
    """What a run recorded: a score, or whether the model passed."""

    numeric_result: float | None = None
    boolean_result: bool | None = None


class Run(Message, frozen=True):
    """One run of a task version on a model, or on an agent. Times are UTC, and None before the start or the end.

    `agent_slug` and `model_version_config_slug` (a model with a reasoning effort, for example) are empty for runs
    on a model as it is. `result` is None until the run has one.
    """

    task_slug: TaskSlug = TaskSlug()
    model_version_slug: str = ""
    id: int = 0
    state: RunState = RunState.UNSPECIFIED
    start_time: datetime | None = None
    end_time: datetime | None = None
    error_message: str = ""
    agent_slug: str = ""
    model_version_config_slug: str = ""
    result: RunResult | None = None


class BatchScheduleRequest(Message, frozen=True):
    task_slugs: list[TaskSlug] = []
    model_version_slugs: list[str] = []
    judge_version_slug: str = ""
    """An addition of the local server: the model behind `judge_llm`. Empty for the server's choice."""


class ScheduleResult(Message, frozen=True):
    benchmark_model_version_id: int = 0
    run_scheduled: bool = False
    run_skipped_reason: str = ""
    benchmark_task_version_id: int = 0
    parent_task_version_id: int = 0


class BatchScheduleResponse(Message, frozen=True):
    results: list[ScheduleResult] = []


class ListRunsRequest(Message, frozen=True):
    task_slug: TaskSlug = TaskSlug()
    model_version_slugs: list[str] = []
    page_size: int = 0
    page_token: str = ""
    skip: int = 0


class ListRunsResponse(Message, frozen=True):
    #: A `null` is an invalid answer, and no empty list: what is not listed is taken for not scheduled.
    runs: list[Run] = []
    total_results: int = 0
    next_page_token: str = ""


class RunRequest(Message, frozen=True):
    """The request of GetBenchmarkTaskRunLogs and DownloadBenchmarkTaskRunOutput (only the latter has the source)."""

    run_id: int = 0
    include_source: bool = False


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a run's log: `time` in seconds since the start of the run, `data` any part of the text.

    It is the only message whose field names are not camelCase.
    """

    stream_name: str = "stdout"
    time: float = 0.0
    data: str = ""


class TaskQuota(Message, frozen=True):
    daily_quota_used: float = 0.0
    total_daily_quota_allowed: float = 0.0


# --- Models and leaderboards ---------------------------------------------------------------------------------


class ModelVersion(Message, frozen=True):
    id: int = 0
    slug: str = ""
    display_name: str = ""
    model_proxy_slug: str = ""
    allow_model_proxy: bool = False
    input_modalities: list[Modality] = []
    output_modalities: list[Modality] = []
    deprecation_time: datetime | None = None
    aliases: list[str] | None = None
    """An addition of the local server: further names by which tasks can ask for the model."""


class BenchmarkModel(Message, frozen=True):
    """A model. Tasks run on its `version`, whose slug `-m` and `Client.run` accept."""

    id: int = 0
    display_name: str = ""
    slug: str = ""
    version: ModelVersion | None = None


class ListModelsRequest(Message, frozen=True):
    page_size: int = 0
    page_token: str = ""


class ListModelsResponse(Message, frozen=True):
    benchmark_models: list[BenchmarkModel] = []
    next_page_token: str = ""


class NumericResult(Message, frozen=True):
    value: int | float = 0.0
    """As it was sent: 1 and 1.0 are shown differently."""
    confidence_interval: float | None = None


class BenchmarkResult(Message, frozen=True):
    numeric_result: NumericResult | None = None
    boolean_result: bool | None = None
    evaluation_date: datetime | None = None


class TaskResult(Message, frozen=True):
    benchmark_task_name: str = ""
    benchmark_task_slug: str = ""
    task_version: int = 0
    result: BenchmarkResult | None = None


class LeaderboardRow(Message, frozen=True):
    model_version_name: str = ""
    model_version_slug: str = ""
    task_results: list[TaskResult] = []
    model_version_config_name: str = ""
    model_version_config_slug: str = ""
    agent_name: str = ""
    agent_slug: str = ""

    @property
    def name(self) -> str:
        """The name of the model, or else of the model configuration or the agent."""
        return self.model_version_name or self.model_version_config_name or self.agent_name

    @property
    def slug(self) -> str:
        return self.model_version_slug or self.model_version_config_slug or self.agent_slug


class GetLeaderboardRequest(Message, frozen=True):
    owner_slug: str = ""
    benchmark_slug: str = ""
    version_number: int = 0


class Leaderboard(Message, frozen=True):
    rows: list[LeaderboardRow] = []


# --- Model Proxy and credentials -----------------------------------------------------------------------------


class ModelProxyToken(Message, frozen=True):
    token: str = ""
    base_uri: str = ""
    expiry_time: datetime | None = None


class QuotaBalance(Message, frozen=True):
    """US dollars used and allowed in one refill period."""

    quota_used: float = 0.0
    total_quota_allowed: float = 0.0
    refill_period: RefillPeriod = RefillPeriod.UNSPECIFIED
    refill_time: datetime | None = None


class ModelProxyQuotas(Message, frozen=True):
    quota_balances: list[QuotaBalance] = []


class IntrospectTokenRequest(Message, frozen=True):
    token: str = ""


class IntrospectTokenResponse(Message, frozen=True):
    active: bool = False
    username: str = ""
    user_id: int = 0
    scope: str = ""
    exp: int = 0


# --- Coding --------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Return `message` as JSON, the form in which it is sent.

    Raises:
        UsageError: A name in it is not Unicode. In arguments of the command line, other bytes are surrogates.
    """
    fields = _with_wire_times(msgspec.to_builtins(message, builtin_types=(datetime,)))
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not Unicode text.", hint="Write it as UTF-8.") from None


def _with_wire_times(value: Any) -> Any:
    """Format all times as Kaggle does: in UTC, with milliseconds and a Z."""
    match value:
        case dict():
            return {key: _with_wire_times(item) for key, item in value.items()}
        case list():
            return [_with_wire_times(item) for item in value]
        case datetime():
            utc = value.astimezone(UTC) if value.tzinfo else value
            return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
        case _:
            return value


# The fields whose values are members of an enum.
_ENUMS: dict[str, type[OpenEnum]] = {
    "creationState": CreationState,
    "state": RunState,
    "source": TaskSource,
    "inputModalities": Modality,
    "outputModalities": Modality,
    "refillPeriod": RefillPeriod,
}


# The only field of an answer in which null is not the same as nothing: see `ListRunsResponse`.
_MEANT_NULL = "runs"


def decode(body: bytes, kind: type[M]) -> M:
    """Decode the message in `body`. An unexpected `null` counts as omitted, and a number may be sent as text.

    Raises:
        msgspec.ValidationError: The body is JSON, but not this message.
        msgspec.DecodeError: The body is not JSON.
    """
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.ValidationError:
        # Encoded again, because what is kept as it was sent cannot be converted.
        usual = msgspec.json.encode(_as_usual(msgspec.json.decode(body)))
        return msgspec.json.decode(usual, type=kind, strict=False)


def _as_usual(value: Any, enum_type: type[OpenEnum] | None = None) -> Any:
    """Leave out nulls, and replace the numbers of enum members by their names."""
    match value:
        case dict():
            return {
                key: _as_usual(item, _ENUMS.get(key))
                for key, item in value.items()
                if item is not None or key == _MEANT_NULL
            }
        case list():
            return [_as_usual(item, enum_type) for item in value]
        case int() if enum_type is not None:
            return enum_type.numbered(value)
        case _:
            return value
