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
    "AddTasksRequest",
    "AddTasksResponse",
    "BatchScheduleRequest",
    "BatchScheduleResponse",
    "BenchmarkModel",
    "BenchmarkQueue",
    "BenchmarkResult",
    "BenchmarkSlug",
    "CancelRunsRequest",
    "CancelRunsResponse",
    "CandidateClass",
    "CandidateType",
    "Citation",
    "CreateTaskRequest",
    "CreationState",
    "DatasetMount",
    "DatasetsDefinition",
    "DefinitionSource",
    "DisplayType",
    "DockerImageDefinition",
    "EnvVariable",
    "ErrorBody",
    "GetLeaderboardRequest",
    "IntrospectTokenRequest",
    "IntrospectTokenResponse",
    "Leaderboard",
    "LeaderboardRow",
    "ListConfigsRequest",
    "ListConfigsResponse",
    "ListModelsRequest",
    "ListModelsResponse",
    "ListRunsRequest",
    "ListRunsResponse",
    "ListTasksRequest",
    "ListTasksResponse",
    "LogEntry",
    "Message",
    "Modality",
    "ModelConfig",
    "ModelProxyQuotas",
    "ModelProxyToken",
    "ModelQueue",
    "ModelVersion",
    "ModelVersionCandidate",
    "NotebookDefinition",
    "NumericResult",
    "PublishTaskRequest",
    "QueueSettings",
    "QueueStatus",
    "QueueStatusRequest",
    "QuotaBalance",
    "RefillPeriod",
    "RemoveTasksResponse",
    "Run",
    "RunIds",
    "RunRequest",
    "RunResult",
    "RunState",
    "ScheduleResult",
    "SkipPolicy",
    "StateCount",
    "Task",
    "TaskDefinition",
    "TaskOptions",
    "TaskQuota",
    "TaskRequest",
    "TaskResult",
    "TaskSlug",
    "TaskSlugs",
    "TaskSource",
    "UnevenInterval",
    "UpdateTaskRequest",
    "UpdateTaskResponse",
    "UpdateTaskVersionRequest",
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


class CandidateType(OpenEnum):
    """What a task version is run on."""

    UNSPECIFIED = "BENCHMARK_CANDIDATE_TYPE_UNSPECIFIED"
    MODEL_VERSIONS = "BENCHMARK_CANDIDATE_TYPE_MODEL_VERSIONS"
    AGENTS = "BENCHMARK_CANDIDATE_TYPE_AGENTS"
    MODEL_VERSION_CONFIGS = "BENCHMARK_CANDIDATE_TYPE_MODEL_VERSION_CONFIGS"


class CandidateClass(OpenEnum):
    """What a row of a leaderboard is about."""

    UNSPECIFIED = "BENCHMARK_CANDIDATE_CLASS_UNSPECIFIED"
    MODEL_VERSION = "BENCHMARK_CANDIDATE_CLASS_MODEL_VERSION"
    MODEL_VERSION_CONFIG = "BENCHMARK_CANDIDATE_CLASS_MODEL_VERSION_CONFIG"
    AGENT = "BENCHMARK_CANDIDATE_CLASS_AGENT"


class DisplayType(OpenEnum):
    """The scale of a result on a leaderboard: 0.85 of `PERCENTAGES` and 85 of `RAW_PERCENTAGES` are both 85%."""

    UNSPECIFIED = "BENCHMARK_LEADERBOARD_DISPLAY_TYPE_UNSPECIFIED"
    PERCENTAGES = "PERCENTAGES"
    COUNTS = "COUNTS"
    DOLLARS = "DOLLARS"
    CENTS = "CENTS"
    RAW_PERCENTAGES = "RAW_PERCENTAGES"
    FLOAT_COUNTS = "FLOAT_COUNTS"
    RAW_VALUES = "RAW_VALUES"
    WHOLE_DOLLARS = "WHOLE_DOLLARS"


class SkipPolicy(OpenEnum):
    """Which pairs of a task version and a candidate an enqueuing call queues, each policy more than the one before it.

    All but `ALL` leave pairs alone whose run is in progress.
    """

    UNSPECIFIED = "BENCHMARK_ENQUEUE_SKIP_POLICY_UNSPECIFIED"
    ALL = "BENCHMARK_ENQUEUE_SKIP_POLICY_ALL"
    MISSING_ONLY = "BENCHMARK_ENQUEUE_SKIP_POLICY_MISSING_ONLY"
    MISSING_OR_ERRORED = "BENCHMARK_ENQUEUE_SKIP_POLICY_MISSING_OR_ERRORED"
    STALER_THAN = "BENCHMARK_ENQUEUE_SKIP_POLICY_STALER_THAN"


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


class Citation(Message, frozen=True):
    """A reference that supports the data or the code of a task."""

    title: str = ""
    url: str = ""

    @property
    def text(self) -> str:
        """`TITLE <URL>`, as people write it."""
        return f"{self.title} <{self.url}>".strip()


class NotebookDefinition(Message, frozen=True):
    """A task whose code is a notebook. Kaggle says nothing of its content here."""

    content: str = ""
    """An addition of the local server, to GetBenchmarkTask: the notebook as it was pushed."""


class EnvVariable(Message, frozen=True):
    """An environment variable of a task in a container; the value may be the name of a secret."""

    key: str = ""
    value: str = ""
    is_secret_name: bool = False


class DockerImageDefinition(Message, frozen=True):
    """A task that is a Docker image."""

    docker_image_url: str = ""
    description: str = ""
    title: str = ""
    env_variables: list[EnvVariable] = []
    default_model_version_slug: str = ""
    default_agent_slug: str = ""
    auxiliary_model_version_config_slugs: list[str] = []
    default_model_version_config_slug: str = ""


class DefinitionSource(Message, frozen=True):
    dataset_version_slug: str = ""
    sub_path: str = ""


class DatasetMount(Message, frozen=True):
    dataset_version_slug: str = ""
    mount_path: str = ""


class DatasetsDefinition(Message, frozen=True):
    """A Harbor task whose definition and data are in datasets."""

    definition_source: DefinitionSource | None = None
    mounts: list[DatasetMount] = []
    env_variables: list[EnvVariable] = []
    override_harness_version_slug: str = ""
    default_model_version_slug: str = ""
    default_agent_slug: str = ""
    override_harness_version_custom_slug: str = ""
    auxiliary_model_version_config_slugs: list[str] = []
    n_attempts: int | None = None
    session_concurrency: int | None = None
    default_model_version_config_slug: str = ""


class TaskDefinition(Message, frozen=True):
    """What is behind a task version: one of the three, without what Kaggle never returns, such as secrets."""

    notebook: NotebookDefinition | None = None
    docker_image: DockerImageDefinition | None = None
    harbor_kaggle_datasets: DatasetsDefinition | None = None


class Task(Message, frozen=True):
    """The newest version of a task. Times are UTC; `error` is why the server refused a push.

    `definition` is there only if the request asked for it, and `definition_partial` says that the server left out what
    the caller may not read.
    """

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
    description: str = ""
    tags: list[str] = []
    provenance_sources: str = ""
    citations: list[Citation] = []
    candidate_type: CandidateType = CandidateType.UNSPECIFIED
    definition: TaskDefinition | None = None
    definition_partial: bool = False
    are_run_artifacts_public: bool = False

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
    include_definition: bool = False


class PublishTaskRequest(Message, frozen=True):
    slug: TaskSlug = TaskSlug()
    publish_backing_notebook: bool = False
    publish_run_artifacts: bool = False


class UpdateTaskRequest(Message, frozen=True):
    """What is to be changed on a task: the fields that `update_mask` names, separated by commas, and no others."""

    slug: TaskSlug = TaskSlug()
    description: str = ""
    tags: list[str] = []
    provenance_sources: str = ""
    citations: list[Citation] = []
    update_mask: str = ""


class UpdateTaskResponse(Message, frozen=True):
    """The task after the change, and the tags that the server does not know, which it has left out."""

    task: Task | None = None
    invalid_tags: list[str] = []


class UpdateTaskVersionRequest(Message, frozen=True):
    """What is to be changed on the version that `slug` names. A version has no tags of its own."""

    slug: TaskSlug = TaskSlug()
    description: str = ""
    provenance_sources: str = ""
    citations: list[Citation] = []
    update_mask: str = ""


class ListTasksRequest(Message, frozen=True):
    regex_filter: str = ""
    status_filter: str = ""
    page_size: int = 0
    page_token: str = ""
    skip: int = 0
    owner_slug: str = ""
    """The owner of the tasks, or of the benchmark if `benchmark_slug` is given."""
    benchmark_slug: str = ""
    version_number: int = 0
    include_definition: bool = False


class ListTasksResponse(Message, frozen=True):
    tasks: list[Task] = []
    total_results: int = 0
    next_page_token: str = ""


# --- Runs ----------------------------------------------------------------------------------------------------


class RunResult(Message, frozen=True):
    """What a run recorded: a score, or whether the model passed."""

    numeric_result: float | None = None
    boolean_result: bool | None = None

    @property
    def value(self) -> float | bool | None:
        """The score, or else whether the model passed."""
        return self.boolean_result if self.numeric_result is None else self.numeric_result


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
    effort: str = ""
    """An addition of the client: the effort of the configuration, which the API does not say here."""

    @property
    def value(self) -> float | bool | None:
        """The score, or whether the model passed; None if the server sends no result."""
        return self.result.value if self.result is not None else None


class BenchmarkSlug(Message, frozen=True):
    owner_slug: str = ""
    benchmark_slug: str = ""
    version_number: int = 0


class BatchScheduleRequest(Message, frozen=True):
    """Runs of each task on each model, or on each agent. An agent has an effort of its own.

    With `enqueue` they go into the server's queue, for which `skip_policy`, `stale_after` (seconds as text, such as
    `3600s`, for STALER_THAN) and `benchmark` apply.
    """

    task_slugs: list[TaskSlug] = []
    model_version_slugs: list[str] = []
    agent_slugs: list[str] = []
    reasoning_effort: str = ""
    enqueue: bool = False
    skip_policy: SkipPolicy = SkipPolicy.UNSPECIFIED
    stale_after: str = ""
    benchmark: BenchmarkSlug | None = None
    judge_version_slug: str = ""
    """An addition of the local server: the model behind `judge_llm`. Empty for the server's choice."""


class ScheduleResult(Message, frozen=True):
    benchmark_model_version_id: int = 0
    run_scheduled: bool = False
    run_skipped_reason: str = ""
    benchmark_task_version_id: int = 0
    parent_task_version_id: int = 0
    agent_id: int = 0
    candidate_type: CandidateType = CandidateType.UNSPECIFIED
    benchmark_model_version_config_id: int = 0
    run_id: int = 0
    """The run that was scheduled; 0 from servers that do not say it."""


class BatchScheduleResponse(Message, frozen=True):
    results: list[ScheduleResult] = []


class TaskSlugs(Message, frozen=True):
    slugs: list[TaskSlug] = []


class RunIds(Message, frozen=True):
    ids: list[int] = []


class ModelVersionCandidate(Message, frozen=True):
    """A model, at one reasoning effort or (empty) at any."""

    model_version_slug: str = ""
    reasoning_effort: str = ""


class CancelRunsRequest(Message, frozen=True):
    """Which of the caller's runs to cancel: those of tasks, or exactly these; perhaps only those of one candidate.

    Runs that have started are left alone without `include_active`.
    """

    task_slugs: TaskSlugs | None = None
    run_ids: RunIds | None = None
    model_version: ModelVersionCandidate | None = None
    agent_slug: str = ""
    include_active: bool = False


class CancelRunsResponse(Message, frozen=True):
    """How many runs were cancelled. Running ones that the server could not reach go on, and are not counted."""

    queued_cancelled_count: int = 0
    active_terminated_count: int = 0


class StateCount(Message, frozen=True):
    state: RunState = RunState.UNSPECIFIED
    count: int = 0


class ModelQueue(Message, frozen=True):
    """The runs of one model in the queue; `recent_state_counts` is about those that ended in the last 24 hours."""

    benchmark_model_version_id: int = 0
    queued_count: int = 0
    running_count: int = 0
    recent_state_counts: list[StateCount] = []


class BenchmarkQueue(Message, frozen=True):
    """The runs of one benchmark in the queue; without an id, those of tasks in none, or `withheld` ones."""

    benchmark_id: int = 0
    benchmark_name: str = ""
    withheld: bool = False
    queued_count: int = 0
    running_count: int = 0
    recent_state_counts: list[StateCount] = []


class QueueSettings(Message, frozen=True):
    """The limits of the server's queue; None is unlimited. If it is not `enabled`, nothing leaves the queue."""

    enabled: bool = False
    max_concurrency: int | None = None
    max_concurrency_per_candidate_model: int | None = None


class QueueStatus(Message, frozen=True):
    """The caller's runs in the queue, however they were scheduled, and how those of the last 24 hours have ended."""

    state_counts: list[StateCount] = []
    recent_state_counts: list[StateCount] = []
    model_version_stats: list[ModelQueue] = []
    settings: QueueSettings | None = None
    benchmark_stats: list[BenchmarkQueue] = []


class QueueStatusRequest(Message, frozen=True):
    """The request of ApiGetBenchmarkSchedulerStatus, which has no fields."""


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
    supports_reasoning_effort: bool | None = None
    """Whether the model takes an effort; None means yes."""
    release_date: datetime | None = None
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


class ModelConfig(Message, frozen=True):
    """A model at one reasoning effort."""

    id: int = 0
    benchmark_model_version_id: int = 0
    display_name: str = ""
    slug: str = ""
    reasoning_effort: str = ""
    """Empty if the configuration has none, so that the model has its provider's default."""


class ListConfigsRequest(Message, frozen=True):
    benchmark_model_version_ids: list[int] = []
    page_size: int = 0
    page_token: str = ""


class ListConfigsResponse(Message, frozen=True):
    configs: list[ModelConfig] = []
    next_page_token: str = ""


class UnevenInterval(Message, frozen=True):
    """How far a confidence interval reaches above and below the value."""

    plus: float = 0.0
    minus: float = 0.0


class NumericResult(Message, frozen=True):
    value: int | float = 0.0
    """As it was sent: 1 and 1.0 are shown differently. The largest float is the rating of a model that always wins."""
    confidence_interval: float | None = None
    uneven_confidence_interval: UnevenInterval | None = None

    @property
    def interval(self) -> UnevenInterval | None:
        """The confidence interval around the value, which is even unless the server says otherwise."""
        if self.uneven_confidence_interval is None and self.confidence_interval is not None:
            return UnevenInterval(plus=self.confidence_interval, minus=self.confidence_interval)
        return self.uneven_confidence_interval


class BenchmarkResult(Message, frozen=True):
    numeric_result: NumericResult | None = None
    boolean_result: bool | None = None
    evaluation_date: datetime | None = None


class TaskResult(Message, frozen=True):
    benchmark_task_name: str = ""
    benchmark_task_slug: str = ""
    task_version: int = 0
    result: BenchmarkResult | None = None
    display_type: DisplayType = DisplayType.UNSPECIFIED


class LeaderboardRow(Message, frozen=True):
    """What is ranked, with its results: a model, a model configuration, or an agent, which has a configuration, too.

    Configurations of one model, and the agents on them, have the model in common.
    """

    model_version_name: str = ""
    model_version_slug: str = ""
    task_results: list[TaskResult] = []
    model_version_config_name: str = ""
    model_version_config_slug: str = ""
    agent_name: str = ""
    agent_slug: str = ""
    candidate_class: CandidateClass = CandidateClass.UNSPECIFIED
    harness_name: str = ""
    harness_slug: str = ""

    @property
    def kind(self) -> CandidateClass:
        """What the row is about. Servers that do not say it name agent and configuration only where it is one."""
        if self.candidate_class.known and self.candidate_class is not CandidateClass.UNSPECIFIED:
            return self.candidate_class
        if self.agent_slug or self.agent_name:
            return CandidateClass.AGENT
        has_config = self.model_version_config_slug or self.model_version_config_name
        return CandidateClass.MODEL_VERSION_CONFIG if has_config else CandidateClass.MODEL_VERSION

    @property
    def name(self) -> str:
        """The name of the agent, the configuration or the model that the row is about. Several rows may have it."""
        names = {
            CandidateClass.AGENT: self.agent_name,
            CandidateClass.MODEL_VERSION_CONFIG: self.model_version_config_name,
            CandidateClass.MODEL_VERSION: self.model_version_name,
        }
        return names[self.kind] or next(filter(None, names.values()), "")

    @property
    def slug(self) -> str:
        """The slug of what the row is about, which no other row has."""
        slugs = {
            CandidateClass.AGENT: self.agent_slug,
            CandidateClass.MODEL_VERSION_CONFIG: self.model_version_config_slug,
            CandidateClass.MODEL_VERSION: self.model_version_slug,
        }
        return slugs[self.kind] or next(filter(None, slugs.values()), "")


class GetLeaderboardRequest(Message, frozen=True):
    owner_slug: str = ""
    benchmark_slug: str = ""
    version_number: int = 0


class Leaderboard(Message, frozen=True):
    rows: list[LeaderboardRow] = []


class AddTasksRequest(Message, frozen=True):
    """The request of AddTasksToBenchmark and RemoveTasksFromBenchmark, on a benchmark of the caller."""

    benchmark_slug: str = ""
    version_number: int = 0
    task_slugs: list[TaskSlug] = []


class AddTasksResponse(Message, frozen=True):
    """The tasks that were added, and those that were there already."""

    added_tasks: list[TaskSlug] = []
    skipped_tasks: list[TaskSlug] = []


class RemoveTasksResponse(Message, frozen=True):
    """The tasks that were removed, and those that were not there."""

    removed_tasks: list[TaskSlug] = []
    skipped_tasks: list[TaskSlug] = []


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
    "candidateType": CandidateType,
    "candidateClass": CandidateClass,
    "displayType": DisplayType,
    "skipPolicy": SkipPolicy,
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
