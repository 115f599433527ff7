"""The client: each call as the protocol has it, on a real socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from fanbench import (
    Anonymous,
    ApiError,
    BadAnswer,
    BadRequest,
    Basic,
    Bearer,
    Client,
    Config,
    Conflict,
    ConnectionFailed,
    Credentials,
    Forbidden,
    NotFound,
    RateLimited,
    ServerFault,
    Unauthorized,
    UsageError,
)
from fanbench.wire.messages import CreationState, Modality, RefillPeriod, RunState
from fanbench.wire.retry import RetryPolicy
from fanbench.wire.transport import base_url
from tests.wire.conftest import TOKEN, Connect
from tests.wire.fake_server import CUT, Answer, FakeServer, Request, problem

pytestmark = pytest.mark.anyio

TASK = {
    "slug": {"ownerSlug": "me", "taskSlug": "a", "versionNumber": 2},
    "creationState": "BENCHMARK_TASK_VERSION_CREATION_STATE_COMPLETED",
    "createTime": "2026-11-23T10:00:00.000Z",
    "somethingNew": {"x": 1},
}
ONCE = RetryPolicy(attempts=1)

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


@pytest.mark.parametrize(("path", "call", "sent", "answer"), CALLS)
async def test_calls(
    connect: Connect, path: str, call: Callable[[Client], Awaitable[Any]], sent: dict[str, Any], answer: Any
) -> None:
    """Each call goes to its place below /api/v1 with exactly these fields, and understands the answer."""
    with FakeServer({path.rpartition("/")[2]: [Answer(answer)]}) as server:
        async with connect(server) as client:
            await call(client)
    [request] = server.requests
    assert request.path == f"/api/v1/{path}"
    assert request.json == sent
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"


def test_base_url() -> None:
    """Kaggle has a host for the API; any other server has it below /api."""
    assert base_url("https://api.kaggle.com") == "https://api.kaggle.com"
    assert base_url("http://127.0.0.1:7777") == "http://127.0.0.1:7777/api"


@pytest.mark.parametrize(
    ("credentials", "header"),
    [(Basic("me", "key"), "Basic bWU6a2V5"), (Anonymous(), None), (Bearer("t"), "Bearer t")],
)
async def test_credentials(credentials: Credentials, header: str | None) -> None:
    """Credentials travel as a bearer token or as the legacy pair; nobody sends none."""
    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})]}) as server:
        async with Client(Config(server.url, credentials)) as client:
            await client.task_quota()
    assert server.requests[0].headers.get("Authorization") == header


async def test_a_task_is_understood(connect: Connect) -> None:
    """Fields become typed values; fields that are not known are ignored."""
    with FakeServer({"GetBenchmarkTask": [Answer(TASK)]}) as server:
        async with connect(server) as client:
            task = await client.get_task("a")
    assert (task.slug.owner_slug, task.slug.version_number) == ("me", 2)
    assert task.creation_state is CreationState.COMPLETED
    assert task.create_time == datetime(2026, 11, 23, 10, tzinfo=UTC)


async def test_strange_values_are_understood(connect: Connect) -> None:
    """An unknown state survives, a null counts as left out, a number may come as text."""
    strange = {
        "slug": {"taskSlug": "a", "versionNumber": "7", "ownerSlug": None},
        "creationState": "BENCHMARK_TASK_VERSION_CREATION_STATE_DREAMING",
        "url": None,
    }
    with FakeServer({"GetBenchmarkTask": [Answer(strange)]}) as server:
        async with connect(server) as client:
            task = await client.get_task("a")
    assert task.creation_state.label == "DREAMING"
    assert (task.slug.version_number, task.slug.owner_slug, task.url) == (7, "", "")


async def test_models_and_quotas_are_understood(connect: Connect) -> None:
    """The nested lists of models and balances come typed."""
    model = {"slug": "m", "version": {"slug": "m", "inputModalities": ["MODALITY_TEXT", "MODALITY_SMELL"]}}
    balance = {"quotaUsed": 1.25, "totalQuotaAllowed": 10, "refillPeriod": "DAILY"}
    script = {
        "ListBenchmarkModels": [Answer({"benchmarkModels": [model]})],
        "GetModelProxyQuotas": [Answer({"quotaBalances": [balance]})],
    }
    with FakeServer(script) as server:
        async with connect(server) as client:
            [found] = await client.list_models()
            [quota] = (await client.proxy_quotas()).quota_balances
    assert found.version is not None
    assert found.version.input_modalities[0] is Modality.TEXT
    assert found.version.input_modalities[1].label == "SMELL"
    assert (quota.quota_used, quota.refill_period) == (1.25, RefillPeriod.DAILY)


# --- Lists ---


def pages_of(name: str, *pages: list[dict[str, Any]]) -> Callable[[Request], Answer]:
    """A list that is cut into `pages`; the tokens are "1", "2", …"""

    def answer(request: Request) -> Answer:
        number = int(request.json.get("pageToken", "0"))
        following = str(number + 1) if number + 1 < len(pages) else ""
        return Answer({name: pages[number], "nextPageToken": following})

    return answer


async def test_lists_go_to_their_end(connect: Connect) -> None:
    """All pages are read, also past an empty one, with the filters on each."""
    tasks = [{"slug": {"taskSlug": name}} for name in "abc"]
    with FakeServer({"ListBenchmarkTasks": pages_of("tasks", tasks[:1], [], tasks[1:])}) as server:
        async with connect(server) as client:
            listed = client.list_tasks(regex="^x", status="COMPLETED", page_size=2)
            assert [task.slug.task_slug async for task in listed] == ["a", "b", "c"]
    filters = {"regexFilter": "^x", "statusFilter": "COMPLETED", "pageSize": 2}
    assert [request.json for request in server.requests] == [
        filters,
        {**filters, "pageToken": "1"},
        {**filters, "pageToken": "2"},
    ]


async def test_models_go_to_their_end(connect: Connect) -> None:
    """All pages of models are read."""
    with FakeServer(
        {"ListBenchmarkModels": pages_of("benchmarkModels", [{"slug": "a"}], [{"slug": "b"}])}
    ) as server:
        async with connect(server) as client:
            assert [model.slug for model in await client.list_models()] == ["a", "b"]


async def test_a_list_may_be_left_early(connect: Connect) -> None:
    """Who needs the first item only causes the first page's call only."""
    with FakeServer(
        {"ListBenchmarkTaskRuns": pages_of("runs", [{"id": 1}, {"id": 2}], [{"id": 3}])}
    ) as server:
        async with connect(server) as client:
            async for run in client.list_runs("a"):
                assert run.id == 1
                break
    assert len(server.requests) == 1


async def test_a_circle_of_pages_ends(connect: Connect) -> None:
    """A page token that comes a second time ends the list with an error instead of never."""
    circle = [Answer({"runs": [{"id": 1}], "nextPageToken": token}) for token in ("x", "y", "x")]
    with FakeServer({"ListBenchmarkTaskRuns": circle}) as server:
        async with connect(server) as client:
            with pytest.raises(BadAnswer, match="loop"):
                [run async for run in client.list_runs("a")]
    assert len(server.requests) == 3


async def test_runs_are_filtered_again(connect: Connect) -> None:
    """A server that ignores the model filter does not matter; spellings of a model do not matter either."""
    runs = [
        {"id": 1, "modelVersionSlug": "google/gemma@default", "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"},
        {"id": 2, "modelVersionSlug": "other"},
        {"id": 3, "modelVersionSlug": "gemma-default"},
    ]
    with FakeServer({"ListBenchmarkTaskRuns": [Answer({"runs": runs})]}) as server:
        async with connect(server) as client:
            found = [run async for run in client.list_runs("a", models=["google/gemma@default"])]
    assert [run.id for run in found] == [1, 3]
    assert found[0].state is RunState.COMPLETED
    assert server.requests[0].json["modelVersionSlugs"] == ["gemma-default"]


async def test_runs_come_once(connect: Connect) -> None:
    """A run that moved to the next page meanwhile is listed once."""
    pages = pages_of("runs", [{"id": 3}, {"id": 2}], [{"id": 2}, {"id": 1}])
    with FakeServer({"ListBenchmarkTaskRuns": pages}) as server:
        async with connect(server) as client:
            assert [run.id async for run in client.list_runs("a")] == [3, 2, 1]


# --- Scheduling ---


async def test_results_are_in_the_order_of_the_models(connect: Connect) -> None:
    """One result a model, skipped ones with their reason."""
    results = [{"runScheduled": True}, {"runSkippedReason": "in flight"}]
    with FakeServer({"BatchScheduleBenchmarkTaskRuns": [Answer({"results": results})]}) as server:
        async with connect(server) as client:
            one, two = await client.schedule_runs("a", ["m", "n"])
    assert (one.run_scheduled, two.run_scheduled, two.run_skipped_reason) == (True, False, "in flight")


async def test_results_that_do_not_fit_are_refused(connect: Connect) -> None:
    """Results that cannot be told apart by model are an error, not a guess."""
    with FakeServer({"BatchScheduleBenchmarkTaskRuns": [Answer({"results": [{}]})]}) as server:
        async with connect(server) as client:
            with pytest.raises(BadAnswer, match="1 results came back for 2 models"):
                await client.schedule_runs("a", ["m", "n"])


async def test_no_models_are_refused(connect: Connect) -> None:
    """A schedule of nothing is a usage error; the server is not asked."""
    with FakeServer({}) as server:
        async with connect(server) as client:
            with pytest.raises(UsageError):
                await client.schedule_runs("a", [])
    assert not server.requests


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
async def test_every_status_has_its_error(status: int, kind: type[ApiError], inside: bool) -> None:
    """An HTTP status, also one inside a 200, becomes its error, with the call and the server's words."""
    answer = problem(status, "The reason.")
    if inside:
        answer = Answer({"code": status, "message": "The reason."})
    with FakeServer({"GetBenchmarkTask": [answer]}) as server:
        async with Client(Config(server.url, Bearer(TOKEN)), retry=ONCE) as client:
            with pytest.raises(ApiError) as caught:
                await client.get_task("a")
    assert type(caught.value) is kind
    assert (caught.value.call, caught.value.status) == ("GetBenchmarkTask", status)
    assert str(caught.value) == f"The reason. (GetBenchmarkTask: HTTP {status})"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"<html>nginx</html>", status=502, headers={"Content-Type": "text/html"}), "Bad Gateway"),
        (Answer(b"too busy", status=500, headers={"Content-Type": "text/plain"}), "too busy"),
        (Answer(b"{broken", status=500), "Internal Server Error"),
        (Answer(b"", status=500), "Internal Server Error"),
        (Answer({"code": 500, "message": None}, status=500), "Internal Server Error"),
        (Answer([1], status=500), "Internal Server Error"),
        (Answer(b"\xff\xfe", status=599), "The server answered with an error"),
    ],
)
async def test_errors_without_a_message(answer: Answer, message: str) -> None:
    """An error whose body has no message still reads well; a page of HTML is not shown."""
    with FakeServer({"GetBenchmarkTask": [answer]}) as server:
        async with Client(Config(server.url, Bearer(TOKEN)), retry=ONCE) as client:
            with pytest.raises(ServerFault) as caught:
                await client.get_task("a")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (
            Answer(b"<!DOCTYPE html><html>Log in", headers={"Content-Type": "text/html"}),
            "<!DOCTYPE html><html>Log in",
        ),
        (Answer(b'{"slug": {"taskSlug"'), "taskSlug"),
        (Answer(b'{"slug": 5}'), "Expected `object`"),
        (Answer(b"[1, 2]"), "Expected `object`"),
        (Answer(b"{}"), "missing required field `slug`"),
        (Answer(b""), "missing required field `slug`"),
        (Answer(b"\xff\xfe"), "starts with"),
        (Answer(b"[" * 100_000), "starts with"),
        (Answer(b"", status=302, headers={"Location": "https://elsewhere"}), "https://elsewhere"),
    ],
)
async def test_answers_that_are_none(connect: Connect, answer: Answer, excerpt: str) -> None:
    """HTML, broken JSON and redirects are a bad answer that shows its start and doubts the endpoint."""
    with FakeServer({"GetBenchmarkTask": [answer]}) as server:
        async with connect(server) as client:
            with pytest.raises(BadAnswer) as caught:
                await client.get_task("a")
    assert excerpt in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "endpoint" in (caught.value.hint or "")
    assert len(server.requests) == 1


async def test_hints_for_credentials() -> None:
    """A refusal says whether the credentials are bad or missing."""
    hints = []
    with FakeServer({"GetBenchmarkTask": [problem(401)]}) as server:
        for credentials in (Anonymous(), Bearer("t")):
            async with Client(Config(server.url, credentials)) as client:
                with pytest.raises(Unauthorized) as caught:
                    await client.get_task("a")
            hints.append(caught.value.hint or "")
    assert "No credentials were sent" in hints[0]
    assert "refused" in hints[1]


@pytest.mark.parametrize("credentials", [Bearer(TOKEN), Basic("me", TOKEN)])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_tokens_are_not_in_errors(credentials: Credentials, status: int) -> None:
    """A server that repeats the token does not get it into our errors."""
    answer = Answer(f"no {TOKEN} here".encode(), status=status, headers={"Content-Type": "text/plain"})
    with FakeServer({"GetBenchmarkTask": [answer]}) as server:
        async with Client(Config(server.url, credentials), retry=ONCE) as client:
            with pytest.raises(ApiError) as caught:
                await client.get_task("a")
    assert "***" in str(caught.value)
    assert TOKEN not in f"{caught.value} {caught.value!r} {caught.value.hint}"


async def test_a_server_that_is_down() -> None:
    """A refused connection says so, names the endpoint and what to look at."""
    with FakeServer({}) as server:
        url = server.url
    async with Client(Config(url, Bearer(TOKEN)), retry=ONCE) as client:
        with pytest.raises(ConnectionFailed, match=f"Cannot connect to {url} for GetBenchmarkTask") as caught:
            await client.get_task("a")
    assert "refused" in str(caught.value)
    assert caught.value.endpoint == url
    assert caught.value.hint


async def test_a_host_that_does_not_exist() -> None:
    """A name that resolves to nothing is a failed connection."""
    async with Client(Config("http://nowhere.invalid", Bearer(TOKEN)), retry=ONCE) as client:
        with pytest.raises(ConnectionFailed, match=r"Cannot connect to http://nowhere\.invalid"):
            await client.get_task("a")


@pytest.mark.parametrize("body", [[CUT], [b'{"slug": ', CUT]])
async def test_a_connection_that_breaks_is_taken_up(connect: Connect, body: list[Any]) -> None:
    """An answer that breaks off in the middle is asked for again."""
    with FakeServer({"GetBenchmarkTask": [Answer(body, length=100), Answer(TASK)]}) as server:
        async with connect(server) as client:
            assert (await client.get_task("a")).slug.task_slug == "a"
    assert len(server.requests) == 2


async def test_a_body_that_is_too_short() -> None:
    """A wrong Content-Length is a broken connection."""
    with FakeServer({"GetBenchmarkTask": [Answer([b"{}", CUT], length=50)]}) as server:
        async with Client(Config(server.url, Bearer(TOKEN)), retry=ONCE) as client:
            with pytest.raises(ConnectionFailed, match="broke off in GetBenchmarkTask"):
                await client.get_task("a")


# --- Bounds ---


async def test_concurrency_is_bounded() -> None:
    """However many calls are made, no more than `concurrency` are under way."""
    with FakeServer({"GetBenchmarkTask": [Answer(TASK, delay=0.02)]}) as server:
        async with (
            Client(Config(server.url, Bearer(TOKEN), concurrency=3)) as client,
            anyio.create_task_group() as group,
        ):
            for _ in range(12):
                group.start_soon(client.get_task, "a")
    assert len(server.requests) == 12
    assert server.most_at_once == 3


async def test_cancelled_calls_give_their_slot_back(connect: Connect) -> None:
    """A call that is cancelled leaves no slot taken."""
    with FakeServer({"GetBenchmarkTask": [Answer(TASK, delay=30)]}) as server:
        async with connect(server) as client:
            with anyio.move_on_after(0.05) as scope:
                await client.get_task("a")
            assert scope.cancelled_caught
            assert client.transport.limits.calls.borrowed_tokens == 0


async def test_a_client_must_be_open() -> None:
    """A client outside its `async with` says how it is used."""
    client = Client(Config("http://x", Anonymous()))
    with pytest.raises(RuntimeError, match="async with"):
        await client.get_task("a")


async def test_a_client_can_be_opened_again(connect: Connect) -> None:
    """After its block a client can be opened once more."""
    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})]}) as server:
        client = connect(server)
        for _ in range(2):
            async with client:
                await client.task_quota()


async def test_proxies_do_not_lead_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's proxy in the environment does not stand between us and the local server."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})]}) as server:
        async with Client(Config(server.url, Anonymous()), retry=ONCE) as client:
            await client.task_quota()
