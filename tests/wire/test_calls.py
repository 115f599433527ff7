"""Each call of the client: what is sent, how the answer is understood, and which error a refusal becomes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
import respx

from fanbench import (
    Anonymous,
    ApiError,
    BadAnswer,
    BadRequest,
    Basic,
    Bearer,
    Citation,
    Client,
    Config,
    Conflict,
    Credentials,
    Forbidden,
    NotFound,
    RateLimited,
    ServerFault,
    Unauthorized,
    UsageError,
)
from fanbench.wire import retry
from fanbench.wire.messages import CreationState, Modality, RefillPeriod, RunState, SkipPolicy
from fanbench.wire.queue import Enqueue
from fanbench.wire.retry import RetryPolicy
from tests.wire.conftest import TOKEN

pytestmark = pytest.mark.anyio

ENDPOINT = "http://localhost"
TASK = {
    "slug": {"ownerSlug": "me", "taskSlug": "a", "versionNumber": 2},
    "creationState": "BENCHMARK_TASK_VERSION_CREATION_STATE_COMPLETED",
    "createTime": "2026-11-23T10:00:00.000Z",
    "somethingNew": {"x": 1},
}
Answered = Callable[..., respx.Route]


@pytest.fixture
def answered(respx_mock: respx.MockRouter) -> Answered:
    """Make the server give these answers to a call, one after the other, or a function's answers."""

    def answer(
        call: str, *answers: httpx.Response | Callable[[httpx.Request], httpx.Response]
    ) -> respx.Route:
        route = respx_mock.post(path__regex=f"/{call}$")
        match answers:
            case [httpx.Response() as only]:
                return route.mock(return_value=only)
            case [function] if callable(function):
                return route.mock(side_effect=function)
            case _:
                return route.mock(side_effect=[each for each in answers if isinstance(each, httpx.Response)])

    return answer


@pytest.fixture
def client() -> Client:
    """A client, still to be opened, that makes every call once."""
    return Client(Config(ENDPOINT, Bearer(TOKEN)), retry=RetryPolicy(attempts=1))


def ok(answer: Any) -> httpx.Response:
    return httpx.Response(200, json=answer)


def sent(route: respx.Route) -> list[Any]:
    return [json.loads(call.request.content) for call in route.calls]


# --- Every call: what is sent, what comes back ---

CALLS: list[tuple[str, Callable[[Client], Awaitable[Any]], dict[str, Any], Any]] = [
    (
        "benchmarks.BenchmarkTasksApiService/CreateBenchmarkTask",
        lambda client: client.create_task("a", "{}", datasets=["me/data"]),
        {"slug": "a", "text": "{}", "options": {"datasetDataSources": ["me/data"]}},
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/CreateBenchmarkTask",
        lambda client: client.create_task("a", "{}"),
        {"slug": "a", "text": "{}"},
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/GetBenchmarkTask",
        lambda client: client.get_task("me/a"),
        {"slug": {"ownerSlug": "me", "taskSlug": "a"}},
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/PublishBenchmarkTask",
        lambda client: client.publish_task("a"),
        {"slug": {"taskSlug": "a"}, "publishBackingNotebook": True},
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/PublishBenchmarkTask",
        lambda client: client.publish_task("a", publish_notebook=False),
        {"slug": {"taskSlug": "a"}},
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/DeleteBenchmarkTask",
        lambda client: client.delete_task("a"),
        {"slug": {"taskSlug": "a"}},
        {},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/BatchScheduleBenchmarkTaskRuns",
        lambda client: client.schedule_runs("me/a", ["google/gemma@default"]),
        {"taskSlugs": [{"ownerSlug": "me", "taskSlug": "a"}], "modelVersionSlugs": ["gemma-default"]},
        {"results": [{"runScheduled": True, "benchmarkModelVersionId": "7"}]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/BatchScheduleBenchmarkTaskRuns",
        lambda client: client.schedule_runs("a", ["google/gemma@default"], effort="high"),
        {
            "taskSlugs": [{"taskSlug": "a"}],
            "modelVersionSlugs": ["gemma-default"],
            "reasoningEffort": "high",
        },
        {"results": [{"runScheduled": True, "benchmarkModelVersionConfigId": "8", "runId": "9"}]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/BatchScheduleBenchmarkTaskRuns",
        lambda client: client.schedule_runs(
            "a",
            ["m"],
            enqueue=Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=86_400.0, benchmark="me/board"),
        ),
        {
            "taskSlugs": [{"taskSlug": "a"}],
            "modelVersionSlugs": ["m"],
            "enqueue": True,
            "skipPolicy": "BENCHMARK_ENQUEUE_SKIP_POLICY_STALER_THAN",
            "staleAfter": "86400s",
            "benchmark": {"ownerSlug": "me", "benchmarkSlug": "board"},
        },
        {"results": [{"runSkippedReason": "It is fresh."}]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/ApiGetBenchmarkSchedulerStatus",
        lambda client: client.queue_status(),
        {},
        {"settings": {"enabled": True}},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/BatchScheduleBenchmarkTaskRuns",
        lambda client: client.schedule_runs("a", agents=["coder-1.2"]),
        {"taskSlugs": [{"taskSlug": "a"}], "agentSlugs": ["coder-1.2"]},
        {"results": [{"runScheduled": True, "agentId": "7"}]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/ApiCancelBenchmarkTaskRuns",
        lambda client: client.cancel_runs(["me/a", "b"], model="google/gemma@default"),
        {
            "taskSlugs": {"slugs": [{"ownerSlug": "me", "taskSlug": "a"}, {"taskSlug": "b"}]},
            "modelVersion": {"modelVersionSlug": "gemma-default"},
        },
        {"queuedCancelledCount": 1},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/ApiCancelBenchmarkTaskRuns",
        lambda client: client.cancel_runs(run_ids=[7, 8], agent="an-agent", include_active=True),
        {"runIds": {"ids": [7, 8]}, "agentSlug": "an-agent", "includeActive": True},
        {"activeTerminatedCount": 2},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/UpdateBenchmarkTask",
        lambda client: client.update_task("a", description="", tags=["x"], citations=[Citation(url="b.org")]),
        {
            "slug": {"taskSlug": "a"},
            "tags": ["x"],
            "citations": [{"url": "b.org"}],
            "updateMask": "description,tags,citations",
        },
        {"task": TASK, "invalidTags": ["x"]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/UpdateBenchmarkTaskVersion",
        lambda client: client.update_task("me/a", version=2, provenance="p"),
        {
            "slug": {"ownerSlug": "me", "taskSlug": "a", "versionNumber": 2},
            "provenanceSources": "p",
            "updateMask": "provenanceSources",
        },
        TASK,
    ),
    (
        "benchmarks.BenchmarkTasksApiService/ListBenchmarkTasks",
        lambda client: anext(client.list_tasks(owner="o", benchmark="b", version=2), None),
        {"ownerSlug": "o", "benchmarkSlug": "b", "versionNumber": 2, "pageSize": 100},
        {"tasks": []},
    ),
    (
        "benchmarks.BenchmarksApiService/AddTasksToBenchmark",
        lambda client: client.add_tasks("b", ["a", "o/c"], version=2),
        {
            "benchmarkSlug": "b",
            "versionNumber": 2,
            "taskSlugs": [{"taskSlug": "a"}, {"ownerSlug": "o", "taskSlug": "c"}],
        },
        {"addedTasks": [TASK["slug"]], "skippedTasks": []},
    ),
    (
        "benchmarks.BenchmarksApiService/RemoveTasksFromBenchmark",
        lambda client: client.remove_tasks("b", "a"),
        {"benchmarkSlug": "b", "taskSlugs": [{"taskSlug": "a"}]},
        {"removedTasks": [TASK["slug"]]},
    ),
    (
        "benchmarks.BenchmarkTasksApiService/GetBenchmarkTaskQuota",
        lambda client: client.task_quota(),
        {},
        {"dailyQuotaUsed": 1.5, "totalDailyQuotaAllowed": 10},
    ),
    (
        "benchmarks.BenchmarksApiService/ListBenchmarkModels",
        lambda client: client.list_models(),
        {"pageSize": 100},
        {"benchmarkModels": []},
    ),
    (
        "benchmarks.BenchmarksApiService/ListBenchmarkModelVersionConfigs",
        lambda client: client.list_configs([7]),
        {"benchmarkModelVersionIds": [7], "pageSize": 100},
        {"configs": [{"id": 1, "benchmarkModelVersionId": 7, "slug": "m-high", "reasoningEffort": "high"}]},
    ),
    (
        "benchmarks.BenchmarksApiService/GetBenchmarkLeaderboard",
        lambda client: client.leaderboard("me", "b", version=3),
        {"ownerSlug": "me", "benchmarkSlug": "b", "versionNumber": 3},
        {"rows": []},
    ),
    (
        "models.ModelProxyApiService/GetModelProxyQuotas",
        lambda client: client.proxy_quotas(),
        {},
        {"quotaBalances": []},
    ),
    (
        "models.ModelProxyApiService/CreateDefaultModelProxyToken",
        lambda client: client.create_proxy_token(),
        {},
        {"token": "t", "baseUri": "http://x", "expiryTime": "2026-11-23T10:00:00.000Z"},
    ),
    (
        "security.OAuthService/IntrospectToken",
        lambda client: client.introspect_token("t"),
        {"token": "t"},
        {"active": True, "username": "me"},
    ),
]


@pytest.mark.parametrize(("path", "call", "fields", "answer"), CALLS)
async def test_calls(
    answered: Answered,
    client: Client,
    path: str,
    call: Callable[[Client], Awaitable[Any]],
    fields: dict[str, Any],
    answer: Any,
) -> None:
    """Each call is a POST below /api/v1 with exactly these fields, and its answer is understood."""
    route = answered(path, ok(answer))
    async with client:
        await call(client)
    request = route.calls.last.request
    assert request.url == f"{ENDPOINT}/api/v1/{path}"
    assert sent(route) == [fields]
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.update_task("a"),
        lambda client: client.update_task("a", version=1, tags=["x"]),
        lambda client: client.add_tasks("b", []),
        lambda client: client.remove_tasks("b", []),
        lambda client: client.schedule_runs("a", []),
        lambda client: client.schedule_runs("a", ["m"], agents=["coder"]),
        lambda client: client.schedule_runs("a", agents=["coder"], effort="high"),
        lambda client: client.cancel_runs(),
        lambda client: client.cancel_runs("a", run_ids=[1]),
        lambda client: client.cancel_runs("a", model="m", agent="coder"),
        lambda client: client.cancel_runs("a", effort="high"),
    ],
)
async def test_senseless_calls_are_not_sent(
    respx_mock: respx.MockRouter, client: Client, call: Callable[[Client], Awaitable[Any]]
) -> None:
    """What changes nothing, is on nothing, or contradicts itself is refused here."""
    async with client:
        with pytest.raises(UsageError):
            await call(client)
    assert respx_mock.calls.call_count == 0


async def test_only_own_benchmarks_are_changed(answered: Answered) -> None:
    """The owner of a benchmark may be written, and is not sent; the benchmarks of others are refused here."""
    route = answered("RemoveTasksFromBenchmark", ok({}))
    async with Client(Config(ENDPOINT, Basic("Me", "key"))) as client:
        await client.remove_tasks("me/b", "a")
        with pytest.raises(UsageError, match="belongs to them, and you are Me"):
            await client.remove_tasks("them/b", "a")
    assert sent(route) == [{"benchmarkSlug": "b", "taskSlugs": [{"taskSlug": "a"}]}]


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [("https://api.kaggle.com", "https://api.kaggle.com"), ("http://127.0.0.1:7", "http://127.0.0.1:7/api")],
)
async def test_base_url(answered: Answered, endpoint: str, base: str) -> None:
    """Kaggle's API has a host of its own; any other server has the API below /api."""
    route = answered("GetBenchmarkTaskQuota", ok({}))
    async with Client(Config(endpoint, Bearer("t"))) as client:
        await client.task_quota()
    assert str(route.calls.last.request.url).startswith(f"{base}/v1/")


@pytest.mark.parametrize(
    ("credentials", "header"),
    [(Basic("me", "key"), "Basic bWU6a2V5"), (Anonymous(), None), (Bearer("t"), "Bearer t")],
)
async def test_credentials(answered: Answered, credentials: Credentials, header: str | None) -> None:
    """Credentials are sent as a bearer token or as the legacy pair; an anonymous client sends none."""
    route = answered("GetBenchmarkTaskQuota", ok({}))
    async with Client(Config(ENDPOINT, credentials)) as client:
        await client.task_quota()
    assert route.calls.last.request.headers.get("Authorization") == header


# --- Answers ---


async def test_fields_are_typed(answered: Answered, client: Client) -> None:
    """Fields become typed values, and unknown fields are ignored."""
    answered("GetBenchmarkTask", ok(TASK))
    async with client:
        task = await client.get_task("a")
    assert (task.slug.owner_slug, task.slug.version_number) == ("me", 2)
    assert task.creation_state is CreationState.COMPLETED
    assert task.create_time == datetime(2026, 11, 23, 10, tzinfo=UTC)


async def test_unusual_values_are_understood(answered: Answered, client: Client) -> None:
    """An unknown state is kept, null counts as omitted, and a number may be sent as text."""
    unusual = {
        "slug": {"taskSlug": "a", "versionNumber": "7", "ownerSlug": None},
        "creationState": "BENCHMARK_TASK_VERSION_CREATION_STATE_DREAMING",
        "url": None,
    }
    answered("GetBenchmarkTask", ok(unusual))
    async with client:
        task = await client.get_task("a")
    assert task.creation_state.label == "DREAMING"
    assert (task.slug.version_number, task.slug.owner_slug, task.url) == (7, "", "")


async def test_nested_lists_are_typed(answered: Answered, client: Client) -> None:
    """The nested lists of models and quotas become typed values."""
    model = {"slug": "m", "version": {"slug": "m", "inputModalities": ["MODALITY_TEXT", "MODALITY_SMELL"]}}
    balance = {"quotaUsed": 1.25, "totalQuotaAllowed": 10, "refillPeriod": "DAILY"}
    answered("ListBenchmarkModels", ok({"benchmarkModels": [model]}))
    answered("GetModelProxyQuotas", ok({"quotaBalances": [balance]}))
    async with client:
        [found] = await client.list_models()
        [quota] = (await client.proxy_quotas()).quota_balances
    assert found.version is not None
    assert found.version.input_modalities[0] is Modality.TEXT
    assert found.version.input_modalities[1].label == "SMELL"
    assert (quota.quota_used, quota.refill_period) == (1.25, RefillPeriod.DAILY)


# --- Lists ---


def pages_of(name: str, *pages: list[dict[str, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    """A list in `pages`; the page tokens are "1", "2", …"""

    def answer(request: httpx.Request) -> httpx.Response:
        number = int(json.loads(request.content).get("pageToken", "0"))
        following = str(number + 1) if number + 1 < len(pages) else ""
        return ok({name: pages[number], "nextPageToken": following})

    return answer


async def test_lists_are_read_to_the_end(answered: Answered, client: Client) -> None:
    """All pages are read, also past an empty page, each with the same filters."""
    tasks = [{"slug": {"taskSlug": name}} for name in "abc"]
    route = answered("ListBenchmarkTasks", pages_of("tasks", tasks[:1], [], tasks[1:]))
    async with client:
        listed = client.list_tasks(regex="^x", status="COMPLETED", page_size=2)
        assert [task.slug.task_slug async for task in listed] == ["a", "b", "c"]
    filters = {"regexFilter": "^x", "statusFilter": "COMPLETED", "pageSize": 2}
    assert sent(route) == [filters, {**filters, "pageToken": "1"}, {**filters, "pageToken": "2"}]


async def test_models_are_read_to_the_end(answered: Answered, client: Client) -> None:
    """All pages of models are read."""
    answered("ListBenchmarkModels", pages_of("benchmarkModels", [{"slug": "a"}], [{"slug": "b"}]))
    async with client:
        assert [model.slug for model in await client.list_models()] == ["a", "b"]


async def test_a_list_may_be_left_early(answered: Answered, client: Client) -> None:
    """A caller that needs only the first item causes only the call for the first page."""
    route = answered("ListBenchmarkTaskRuns", pages_of("runs", [{"id": 1}, {"id": 2}], [{"id": 3}]))
    async with client:
        assert (await anext(client.list_runs("a"))).id == 1
    assert route.call_count == 1


async def test_a_loop_of_pages_ends(answered: Answered, client: Client) -> None:
    """A page token that is repeated ends the list with an error."""
    loop = [ok({"runs": [{"id": 1}], "nextPageToken": token}) for token in ("x", "y", "x")]
    route = answered("ListBenchmarkTaskRuns", *loop)
    async with client:
        with pytest.raises(BadAnswer, match="loop"):
            [run async for run in client.list_runs("a")]
    assert route.call_count == 3


async def test_runs_are_filtered_again(answered: Answered, client: Client) -> None:
    """A server may ignore the model filter, and spell the models in other ways."""
    runs = [
        {"id": 1, "modelVersionSlug": "google/gemma@default", "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"},
        {"id": 2, "modelVersionSlug": "other"},
        {"id": 3, "modelVersionSlug": "gemma-default"},
    ]
    route = answered("ListBenchmarkTaskRuns", ok({"runs": runs}))
    async with client:
        found = [run async for run in client.list_runs("a", models=["google/gemma@default"])]
    assert [run.id for run in found] == [1, 3]
    assert found[0].state is RunState.COMPLETED
    assert sent(route)[0]["modelVersionSlugs"] == ["gemma-default"]


RUNS_AT_EFFORTS = [
    {"id": 1, "modelVersionSlug": "m"},
    {"id": 2, "modelVersionSlug": "m", "modelVersionConfigSlug": "m-thinks"},
    {"id": 3, "modelVersionSlug": "m", "modelVersionConfigSlug": "m-low-reasoning-effort"},
    {"id": 4, "modelVersionSlug": "m", "modelVersionConfigSlug": "m-thinks", "agentSlug": "coder"},
]


async def test_runs_at_an_effort(answered: Answered, client: Client) -> None:
    """The efforts of runs are those of the listed configurations, which are asked for once."""
    listed = answered("ListBenchmarkTaskRuns", ok({"runs": RUNS_AT_EFFORTS}))
    config = {"slug": "m-thinks", "reasoningEffort": "high"}
    configs = answered("ListBenchmarkModelVersionConfigs", ok({"configs": [config]}))
    async with client:
        at_high = [run.id async for run in client.list_runs("a", models=["o/m@high"])]
        as_it_is = [run.id async for run in client.list_runs("a", models=["m"])]
        efforts = [run.effort async for run in client.list_runs("a")]
    assert (at_high, as_it_is, efforts) == ([2], [1], ["", "high", "", "high"])
    assert [each.get("modelVersionSlugs") for each in sent(listed)] == [["m"], ["m"], None]
    assert configs.call_count == 1


async def test_several_lists_ask_for_efforts_once(answered: Answered, client: Client) -> None:
    """Lists that are read at the same time ask for the configurations once."""
    answered("ListBenchmarkTaskRuns", ok({"runs": RUNS_AT_EFFORTS}))
    config = {"slug": "m-thinks", "reasoningEffort": "high"}
    configs = answered("ListBenchmarkModelVersionConfigs", ok({"configs": [config]}))
    found: list[str] = []

    async def read() -> None:
        found.extend([run.effort async for run in client.list_runs("a")])

    async with client, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)
    assert found == ["", "high", "", "high"] * 5
    assert configs.call_count == 1


@pytest.mark.parametrize("status", [403, 404, 501])
async def test_runs_at_an_effort_on_an_older_server(answered: Answered, client: Client, status: int) -> None:
    """If the server does not list configurations, their usual slugs tell the efforts."""
    answered("ListBenchmarkTaskRuns", ok({"runs": RUNS_AT_EFFORTS}))
    configs = answered(
        "ListBenchmarkModelVersionConfigs", httpx.Response(status, json={"message": "Unknown call"})
    )
    async with client:
        low = [[run.id async for run in client.list_runs("a", models=["m@low"])] for _ in range(2)]
    assert low == [[3], [3]]
    assert configs.call_count == 1


@pytest.mark.parametrize("first_page", [[3, 2], [3, 3, 2, 3]])
async def test_each_run_is_listed_once(answered: Answered, client: Client, first_page: list[int]) -> None:
    """A run that has moved to the next page in the meantime, or is twice in one page, is listed once."""
    first = [{"id": number} for number in first_page]
    answered("ListBenchmarkTaskRuns", pages_of("runs", first, [{"id": 2}, {"id": 1}]))
    async with client:
        assert [run.id async for run in client.list_runs("a")] == [3, 2, 1]


# --- Scheduling ---


async def test_results_are_in_the_order_of_the_models(answered: Answered, client: Client) -> None:
    """There is one result per model, with the reason for a model that was skipped."""
    results = [{"runScheduled": True}, {"runSkippedReason": "in flight"}]
    answered("BatchScheduleBenchmarkTaskRuns", ok({"results": results}))
    async with client:
        one, two = await client.schedule_runs("a", ["m", "n"])
    assert (one.run_scheduled, two.run_scheduled, two.run_skipped_reason) == (True, False, "in flight")


async def test_a_wrong_number_of_results_is_refused(answered: Answered, client: Client) -> None:
    """Results that cannot be assigned to the models are an error."""
    answered("BatchScheduleBenchmarkTaskRuns", ok({"results": [{}]}))
    async with client:
        with pytest.raises(BadAnswer, match="1 results came back for 2 models"):
            await client.schedule_runs("a", ["m", "n"])


# --- Errors ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (418, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, ServerFault),
        (501, ServerFault),
        (503, ServerFault),
        (599, ServerFault),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
async def test_every_status_has_its_error(
    answered: Answered, client: Client, status: int, kind: type[ApiError], inside: bool
) -> None:
    """An HTTP status, also one inside a 200, becomes its error, with the call and the server's message."""
    body = {"code": status, "message": "The reason."}
    answered("GetBenchmarkTask", httpx.Response(200 if inside else status, json=body))
    async with client:
        with pytest.raises(ApiError) as caught:
            await client.get_task("a")
    assert type(caught.value) is kind
    assert (caught.value.call, caught.value.status) == ("GetBenchmarkTask", status)
    assert str(caught.value) == f"The reason. (GetBenchmarkTask: HTTP {status})"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(502, html="<html>nginx</html>"), "Bad Gateway"),
        (httpx.Response(500, text="too busy"), "too busy"),
        (httpx.Response(500, content=b"{broken"), "Internal Server Error"),
        (httpx.Response(500), "Internal Server Error"),
        (httpx.Response(500, json={"code": 500, "message": None}), "Internal Server Error"),
        (httpx.Response(500, json=[1]), "Internal Server Error"),
        (httpx.Response(599, content=b"\xff\xfe"), "The server answered with an error"),
    ],
)
async def test_errors_without_a_message(
    answered: Answered, client: Client, answer: httpx.Response, message: str
) -> None:
    """An error without a message in its body has a readable one, which is never a page of HTML."""
    answered("GetBenchmarkTask", answer)
    async with client:
        with pytest.raises(ServerFault) as caught:
            await client.get_task("a")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (httpx.Response(200, html="<!DOCTYPE html><html>Log in"), "<!DOCTYPE html><html>Log in"),
        (httpx.Response(200, content=b'{"slug": {"taskSlug"'), "taskSlug"),
        (httpx.Response(200, content=b'{"slug": 5}'), "Expected `object`"),
        (httpx.Response(200, content=b"[1, 2]"), "Expected `object`"),
        (httpx.Response(200, content=b"{}"), "missing required field `slug`"),
        (httpx.Response(200), "missing required field `slug`"),
        (httpx.Response(200, content=b"\xff\xfe"), "starts with"),
        (httpx.Response(200, content=b"[" * 100_000), "starts with"),
        (httpx.Response(302, headers={"Location": "https://elsewhere"}), "https://elsewhere"),
    ],
)
async def test_answers_that_do_not_follow_the_protocol(
    answered: Answered, answer: httpx.Response, excerpt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTML, broken JSON and redirects are a BadAnswer that shows an excerpt; what is unreadable is asked for thrice."""
    monkeypatch.setattr(retry, "_UNREADABLE_PAUSE", 0.0)
    route = answered("GetBenchmarkTask", answer)
    async with Client(Config(ENDPOINT, Bearer(TOKEN)), retry=RetryPolicy(base=0.0)) as client:
        with pytest.raises(BadAnswer) as caught:
            await client.get_task("a")
    assert excerpt in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "endpoint" in (caught.value.hint or "")
    assert route.call_count == (1 if answer.status_code == 302 else 3)


@pytest.mark.parametrize(
    ("credentials", "hint"), [(Anonymous(), "No credentials were sent"), (Bearer("t"), "were refused")]
)
async def test_hints_for_credentials(answered: Answered, credentials: Credentials, hint: str) -> None:
    """The hint of a 401 tells refused credentials from missing ones."""
    answered("GetBenchmarkTask", httpx.Response(401, json={"code": 401, "message": "No."}))
    async with Client(Config(ENDPOINT, credentials)) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.get_task("a")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("credentials", [Bearer(TOKEN), Basic("me", TOKEN)])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_tokens_are_not_in_errors(answered: Answered, credentials: Credentials, status: int) -> None:
    """A token that the server repeats does not appear in the error."""
    answered("GetBenchmarkTask", httpx.Response(status, text=f"no {TOKEN} here"))
    async with Client(Config(ENDPOINT, credentials), retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(ApiError) as caught:
            await client.get_task("a")
    assert "***" in str(caught.value)
    assert TOKEN not in f"{caught.value} {caught.value!r} {caught.value.hint}"
