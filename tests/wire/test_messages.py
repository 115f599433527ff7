"""The messages agree with the classes of Kaggle's own SDK, in both directions."""

from __future__ import annotations

import enum
import json
import types
from datetime import UTC, datetime
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kagglesdk.benchmarks.types import (
    benchmark_enums,
    benchmark_task_run_service,
    benchmark_tasks_api_service,
    benchmarks_api_service,
)
from kagglesdk.models.types import model_enums, model_proxy_api_service
from kagglesdk.security.types import oauth_service

from fanbench import UsageError
from fanbench.operations.lookup import model_of
from fanbench.wire import messages as ours
from fanbench.wire.messages import Message, decode, encode

tasks, benchmarks = benchmark_tasks_api_service, benchmarks_api_service
proxy, oauth = model_proxy_api_service, oauth_service

REQUESTS = [
    (ours.CreateTaskRequest, tasks.ApiCreateBenchmarkTaskRequest),
    (ours.TaskRequest, tasks.ApiGetBenchmarkTaskRequest),
    (ours.ListTasksRequest, tasks.ApiListBenchmarkTasksRequest),
    (ours.BatchScheduleRequest, tasks.ApiBatchScheduleBenchmarkTaskRunsRequest),
    (ours.ListRunsRequest, tasks.ApiListBenchmarkTaskRunsRequest),
    (ours.RunRequest, tasks.ApiDownloadBenchmarkTaskRunOutputRequest),
    (ours.PublishTaskRequest, tasks.ApiPublishBenchmarkTaskRequest),
    (ours.UpdateTaskRequest, tasks.ApiUpdateBenchmarkTaskRequest),
    (ours.UpdateTaskVersionRequest, tasks.ApiUpdateBenchmarkTaskVersionRequest),
    (ours.CancelRunsRequest, tasks.ApiCancelBenchmarkTaskRunsRequest),
    (ours.QueueStatusRequest, tasks.ApiGetBenchmarkSchedulerStatusRequest),
    (ours.ListConfigsRequest, benchmarks.ApiListBenchmarkModelVersionConfigsRequest),
    (ours.AddTasksRequest, benchmarks.ApiAddTasksToBenchmarkRequest),
    (ours.AddTasksRequest, benchmarks.ApiRemoveTasksFromBenchmarkRequest),
    (ours.ListModelsRequest, benchmarks.ApiListBenchmarkModelsRequest),
    (ours.GetLeaderboardRequest, benchmarks.ApiGetBenchmarkLeaderboardRequest),
    (ours.IntrospectTokenRequest, oauth.IntrospectTokenRequest),
]
ANSWERS = [
    (ours.Task, tasks.ApiBenchmarkTask),
    (ours.ListTasksResponse, tasks.ApiListBenchmarkTasksResponse),
    (ours.BatchScheduleResponse, tasks.ApiBatchScheduleBenchmarkTaskRunsResponse),
    (ours.ListRunsResponse, tasks.ApiListBenchmarkTaskRunsResponse),
    (ours.UpdateTaskResponse, tasks.ApiUpdateBenchmarkTaskResponse),
    (ours.CancelRunsResponse, tasks.ApiCancelBenchmarkTaskRunsResponse),
    (ours.QueueStatus, benchmark_task_run_service.GetBenchmarkSchedulerStatusResponse),
    (ours.ListConfigsResponse, benchmarks.ApiListBenchmarkModelVersionConfigsResponse),
    (ours.AddTasksResponse, benchmarks.ApiAddTasksToBenchmarkResponse),
    (ours.RemoveTasksResponse, benchmarks.ApiRemoveTasksFromBenchmarkResponse),
    (ours.TaskQuota, tasks.ApiGetBenchmarkTaskQuotaResponse),
    (ours.ListModelsResponse, benchmarks.ApiListBenchmarkModelsResponse),
    (ours.Leaderboard, benchmarks.ApiBenchmarkLeaderboard),
    (ours.ModelProxyToken, proxy.ApiCreateDefaultModelProxyTokenResponse),
    (ours.ModelProxyQuotas, proxy.ApiGetModelProxyQuotasResponse),
    (ours.IntrospectTokenResponse, oauth.IntrospectTokenResponse),
]
ENUMS = [
    (ours.CreationState, benchmark_enums.BenchmarkTaskVersionCreationState),
    (ours.RunState, benchmark_enums.BenchmarkTaskRunState),
    (ours.Modality, benchmark_enums.Modality),
    (ours.TaskSource, benchmark_enums.BenchmarkTaskVersionSource),
    (ours.CandidateType, benchmark_enums.BenchmarkCandidateType),
    (ours.CandidateClass, benchmark_enums.BenchmarkCandidateClass),
    (ours.DisplayType, benchmark_enums.BenchmarkLeaderboardDisplayType),
    (ours.SkipPolicy, benchmark_enums.BenchmarkEnqueueSkipPolicy),
    (ours.RefillPeriod, model_enums.ModelProxyQuotaRefillPeriod),
]
# The newest web answer has the first, the local server has the second, our client adds the third.
OURS_ONLY = {"invalidDatasetSources", "aliases", "content", "effort"}

# There are 33 classes, and the SDK takes milliseconds for each example.
QUARTER = settings(max_examples=settings().max_examples // 4)

milliseconds = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(0, 2**53),
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    datetime: milliseconds,
    types.NoneType: st.none(),
}
# Texts with a form of their own. The SDK cannot write durations of a day or more: it leaves the days out.
FORMED = {
    "staleAfter": st.integers(1, 24 * 3600 - 1).map("{}s".format),
    "updateMask": st.lists(st.sampled_from(["description", "tags", "citations"]), unique=True).map(",".join),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for any value of a field's type."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    if get_origin(kind) is list:
        return st.lists(values_of(get_args(kind)[0]), max_size=2)
    if kind == list[ours.Run] | None:
        return values_of(list[ours.Run])  # None stands for a null, which the SDK does not read
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of([values_of(each) for each in get_args(kind)])
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    fields = {
        field.name: FORMED[field.encode_name] if field.encode_name in FORMED else values_of(field.type)
        for field in msgspec.structs.fields(kind)
        if field.encode_name not in OURS_ONLY
    }
    return st.builds(kind, **fields)


def unknown_fields(data: Any, theirs: Any) -> list[str]:
    """Return the names in `data`, at any depth, that the SDK's class does not have."""
    known = {field.json_name: field for field in theirs._fields}
    found = [name for name in data if name not in known]
    for name, value in data.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and name in known:
                found += unknown_fields(item, known[name].field_type)
    return found


@pytest.mark.parametrize(("mine", "theirs"), REQUESTS)
@QUARTER
@given(data=st.data())
def test_the_vendor_understands_our_requests(mine: type[Message], theirs: Any, data: st.DataObject) -> None:
    """The SDK's class knows each field of every request but our own additions, and would send the same."""
    sent = json.loads(encode(data.draw(values_of(mine))))
    # Sent only to a local server, for --judge.
    sent.pop("judgeVersionSlug", None)
    assert unknown_fields(sent, theirs) == []
    assert theirs.from_dict(sent).to_dict() == sent


def test_names_that_are_not_text() -> None:
    """A name of bytes that are not UTF-8, from a command line, is a usage error."""
    with pytest.raises(UsageError, match="is not Unicode text"):
        encode(ours.ListTasksRequest(regex_filter="a\udcff"))


def test_the_log_request_has_one_field() -> None:
    """The request for a log, which shares its struct with downloads, never sends the field of the latter."""
    sent = json.loads(encode(ours.RunRequest(run_id=7)))
    assert tasks.ApiGetBenchmarkTaskRunLogsRequest.from_dict(sent).to_dict() == sent == {"runId": 7}


@pytest.mark.parametrize(("mine", "theirs"), ANSWERS)
@QUARTER
@given(data=st.data())
def test_we_understand_the_vendors_answers(mine: type[Message], theirs: Any, data: st.DataObject) -> None:
    """An answer keeps its meaning when the SDK's class has read and written it."""
    message = data.draw(values_of(mine))
    passed_on = theirs.from_dict(json.loads(encode(message))).to_json()
    assert unknown_fields(json.loads(passed_on), theirs) == []
    assert decode(passed_on.encode(), mine) == message


@pytest.mark.parametrize(("mine", "theirs"), ANSWERS)
def test_nulls_are_left_out(mine: type[Message], theirs: Any) -> None:
    """An answer that includes all defaults and nulls is understood."""
    written = theirs().to_dict(ignore_defaults=False)
    if mine is ours.Task:
        written["slug"] = {"ownerSlug": None, "taskSlug": "a", "versionNumber": None}
    decode(json.dumps(written).encode(), mine)


@pytest.mark.parametrize(("mine", "theirs"), ENUMS)
def test_enums_are_the_same(mine: type[enum.Enum], theirs: type[enum.Enum]) -> None:
    """Our enums and the SDK's have the same names, ours in the order of the SDK's numbers."""
    assert [each.value for each in mine] == [each.name for each in sorted(theirs, key=lambda one: one.value)]


@pytest.mark.parametrize("sent", [3, "COMPLETED", "completed", ours.RunState.COMPLETED.value])
def test_short_names_and_numbers_of_states(sent: object) -> None:
    """A state is the same by its number, its short name and its full name; a null is left out, too."""
    task = json.dumps({"slug": {}, "url": None, "creationState": sent}).replace(
        "RUN_STATE", "VERSION_CREATION_STATE"
    )
    runs = json.dumps({"runs": [{"id": 1, "state": sent}, {"id": 2, "errorMessage": None}]})
    assert decode(task.encode(), ours.Task).creation_state is ours.CreationState.COMPLETED
    states = [run.state for run in decode(runs.encode(), ours.ListRunsResponse).runs or ()]
    assert states == [ours.RunState.COMPLETED, ours.RunState.UNSPECIFIED]


def test_numbers_in_lists_of_enums() -> None:
    """The members in a list may be numbers, too, beside numbers that are no members."""
    body = b'{"id": 1, "inputModalities": [1, 3], "allowModelProxy": true}'
    version = decode(body, ours.ModelVersion)
    assert (version.id, version.input_modalities) == (1, [ours.Modality.TEXT, ours.Modality.VIDEO])


@pytest.mark.parametrize("sent", [99, -1, "BENCHMARK_TASK_RUN_STATE_PAUSED", "PAUSED"])
def test_unknown_states_end_nothing(sent: object) -> None:
    """A state without a name here is not known and does not end a run; its label shows what was sent."""
    run = decode(json.dumps({"state": sent}).encode(), ours.Run)
    assert (run.state.known, run.state.terminal) == (False, False)
    assert run.state.label == str(sent).removeprefix("BENCHMARK_TASK_RUN_STATE_")


@given(st.text())
def test_unknown_states_are_kept(name: str) -> None:
    """An unknown state can be decoded, compared and encoded without a change."""
    state = ours.RunState(name)
    assert state == ours.RunState(name)
    run = ours.Run(id=1, state=state)
    assert decode(encode(run), ours.Run).state.value == name


def test_known_states() -> None:
    """Only the names in our enums are known, and only five states end a creation."""
    unknown = ours.CreationState("BENCHMARK_TASK_VERSION_CREATION_STATE_CHECKING")
    assert (unknown.known, unknown.ended, unknown.pending) == (False, False, False)
    assert all(state.known for state in ours.CreationState)
    assert {state.label for state in ours.CreationState if not state.ended} == {
        "UNSPECIFIED",
        "QUEUED",
        "RUNNING",
        "VALIDATING",
    }


def test_runs_of_agents_have_a_name() -> None:
    """A run is called by its agent, or else by its model, or else by its model configuration."""
    assert model_of(ours.Run(agent_slug="o/agent@1", model_version_config_slug="")) == "agent-1"
    assert model_of(ours.Run(model_version_config_slug="o/m-high")) == "m-high"
    assert model_of(ours.Run(agent_slug="a", model_version_slug="o/m@default")) == "a"
