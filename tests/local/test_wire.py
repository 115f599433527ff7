"""The calls of the protocol, answered by a real server on a real socket with the real SDK behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import anyio
import httpx
import pytest

from fanbench import Client
from fanbench.errors import BadRequest, Forbidden, NotFound, Unauthorized
from fanbench.tasks import to_notebook
from fanbench.wire.messages import CreationState, RunState

from .server_process import TASK, ServerProcess, ended, ensure_pushed, log_text, push, run, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


async def test_a_task_goes_from_push_to_output(client: Client, tmp_path: Path) -> None:
    """A pushed task is created, runs on two models, and leaves logs and files with its results."""
    task = await push(client, "first-life", TASK.replace("two-plus-two", "first-life"))
    assert task.creation_state is CreationState.COMPLETED
    assert task.slug.version_number == 1
    results = await client.schedule_runs("first-life", ["four", "test/wrong"])
    assert [result.run_scheduled for result in results] == [True, True]
    runs = await ended(client, "first-life")
    assert [(r.model_version_slug, r.state) for r in runs] == [
        ("four", RunState.COMPLETED),
        ("wrong", RunState.COMPLETED),
    ]
    assert "no idea" in await log_text(client, runs[1].id)
    passed = []
    for each in runs:
        await client.download_output(each.id, tmp_path / str(each.id), include_source=True)
        (file,) = (tmp_path / str(each.id)).glob("*.run.json")
        passed.append(json.loads(file.read_text())["results"][0].get("booleanResult", False))
        executed = json.loads((tmp_path / str(each.id) / "__notebook__.ipynb").read_text())
        assert "What is 2 + 2?" in str(executed["cells"][-1]["outputs"])
        source = json.loads((tmp_path / str(each.id) / "__notebook_source__.ipynb").read_text())
        assert not any(cell.get("outputs") for cell in source["cells"])
    assert passed == [True, False]
    assert [r.result and r.result.boolean_result for r in runs] == passed


async def test_a_notebook_keeps_its_cells(client: Client, tmp_path: Path) -> None:
    """A pushed notebook runs with its magics, and its download has the cells and attachments that were pushed."""
    notebook = json.loads(to_notebook(TASK.replace("two-plus-two", "from-a-notebook")))
    image = {"dot.png": {"image/png": "iVBORw0KGgo="}}
    title = {"cell_type": "markdown", "metadata": {}, "source": "![](attachment:dot.png)"}
    magic = {"cell_type": "code", "metadata": {"tags": ["shell"]}, "source": "%%bash\necho from a shell"}
    skipped = {"cell_type": "code", "metadata": {"tags": ["skip-execution"]}, "source": "1 / 0"}
    module = {"cell_type": "code", "metadata": {}, "source": "%%writefile tool.py\nVALUE = 'from a tool'"}
    imports = {"cell_type": "code", "metadata": {}, "source": "import tool\nprint(tool.VALUE)"}
    notebook["cells"] = [
        title | {"attachments": image},
        *(magic, skipped, module, imports),
        *notebook["cells"],
    ]
    (tmp_path / "task.ipynb").write_text(json.dumps(notebook))
    pushed = await client.push(tmp_path / "task.ipynb", wait=True)
    assert pushed.created
    (only,) = await run(client, "from-a-notebook", "four")
    assert only.state is RunState.COMPLETED
    log = await log_text(client, only.id)
    assert "from a shell" in log
    assert "from a tool" in log
    await client.download_output(only.id, tmp_path / "out", include_source=True)
    for name in ("__notebook_source__.ipynb", "__notebook__.ipynb"):
        cells = json.loads((tmp_path / "out" / name).read_text())["cells"]
        assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
            (cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]
        ]
        assert (cells[0]["attachments"], cells[1]["metadata"]) == (image, {"tags": ["shell"]})


async def test_an_env_file_redirects_no_run(client: Client, server: ServerProcess) -> None:
    """A `.env` in the folder in which the server was started does not override the environment of its runs."""
    assert (server.data.parent / ".env").read_text().startswith("LLM_DEFAULT=somebody/else\n")
    await ensure_pushed(client)


async def test_the_url_of_a_task_leads_somewhere(client: Client, server: ServerProcess) -> None:
    """The URL of a task is a page that holds nothing, and with the token the states of the task's runs."""
    await ensure_pushed(client)
    task = await client.get_task("two-plus-two")
    await run(client, "two-plus-two", "wrong")
    async with httpx.AsyncClient() as http:
        page = await http.get(task.url)
        wrong = await http.get(task.url, headers={"authorization": "Bearer no"})
        http.headers["authorization"] = f"Bearer {server.address.token}"
        text = await http.get(task.url)
        missing = await http.get(task.url.replace("two-plus-two", "no-such-task"))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "two-plus-two" not in page.text
    (script,) = re.findall(r"<script>(.*)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.headers["content-security-policy"]
    assert wrong.status_code == 401
    assert "COMPLETED" not in wrong.text
    assert text.status_code == 200
    assert text.headers["content-type"].startswith("text/plain")
    assert "wrong: COMPLETED" in text.text
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("slug", "source", "state", "words"),
    [
        ("no-run", "# %%\nprint(1)", CreationState.KERNEL_WITHOUT_RUN, "no .run.json"),
        (
            "says-why",
            "# %%\nprint('because')",
            CreationState.KERNEL_WITHOUT_RUN,
            "said last:\n  | because\nThe notebook ran",
        ),
        ("other-name", TASK, CreationState.VALIDATION_FAILED, "two-plus-two"),
        ("cell-fails", "# %%\nx = 1\n# %%\nx / 0", CreationState.ERRORED, "ZeroDivisionError"),
        ("syntax", "# %%\nx = = 1", CreationState.ERRORED, "SyntaxError"),
        ("exits", "# %%\nimport sys\nsys.exit(3)", CreationState.ERRORED, "SystemExit: 3"),
        (
            "no-model",
            "# %%\nimport kaggle_benchmarks as kbench\n@kbench.task(name='no-model')\n"
            "def t(x: int) -> bool:\n    return True\nt.run(3)",
            CreationState.NO_MODEL_SPECIFIED,
            "kbench.llm",
        ),
    ],
)
async def test_a_failed_creation_has_the_reason(
    client: Client, slug: str, source: str, state: CreationState, words: str
) -> None:
    """A notebook that records no usable run fails with Kaggle's state for it, and the reason."""
    task = await push(client, slug, source)
    assert task.creation_state is state
    assert words in task.creation_error_message


async def test_a_failed_creation_cannot_be_run(client: Client) -> None:
    """Only tasks whose creation is COMPLETED can be scheduled."""
    await push(client, "never-runs", "# %%\n1/0")
    with pytest.raises(BadRequest, match="ERRORED"):
        await client.schedule_runs("never-runs", ["four"])


async def test_magics_work(client: Client) -> None:
    """Shell lines, line magics and cell magics run as in a notebook."""
    magics = "# %%\n!echo from-the-shell\n# %%\n%time x = 1\n# %%\n%%bash\necho from-$((1+1))-bash\n"
    await push(client, "magics", magics + task_source("magics", "return True"))
    (latest,) = await run(client, "magics", "four")
    text = await log_text(client, latest.id)
    assert "from-the-shell" in text
    assert "from-2-bash" in text


async def test_a_run_knows_the_modules_of_files(client: Client) -> None:
    """A run need not find out which file is of which module: that would take longer than a short run does."""
    body = "import inspect\nprint('known:', 'kaggle_benchmarks.tasks' in inspect.modulesbyfile.values())\nreturn True"
    await push(client, "knows", task_source("knows", body))
    (latest,) = await run(client, "knows", "four")
    assert "known: True" in await log_text(client, latest.id)


CHOOSES = """# %%
import kaggle_benchmarks as kbench
# %%
@kbench.task(name="Red Fox")
def red(llm) -> float:
    return 0.25
@kbench.task(name="red-fox-row")
def row(llm) -> float:
    return 0.75
for task in (red, row): task.run(kbench.llm)
"""


@pytest.mark.parametrize(
    ("slug", "line", "state", "error", "noted"),
    [
        ("red-fox", "%choose red", CreationState.COMPLETED, "", "removed the runs of red-fox-row."),
        ("red-fox", '%choose "Red Fox"', CreationState.COMPLETED, "", "removed the runs of red-fox-row."),
        ("red-fox", "%choose task", CreationState.VALIDATION_FAILED, "only the run of red-fox-row", ""),
        ("red-fox-row", "%choose red", CreationState.VALIDATION_FAILED, "Push red-fox instead", ""),
        ("red-fox", "%choose [red, row]", CreationState.KERNEL_WITHOUT_RUN, "Name the task to keep", ""),
        ("red-fox", "%choose blue", CreationState.KERNEL_WITHOUT_RUN, "No task that is called blue", ""),
        ("red-fox", "%choose", CreationState.COMPLETED, "", "%choose needs the name of a task."),
    ],
)
async def test_choose_keeps_one_task(
    client: Client, slug: str, line: str, state: CreationState, error: str, noted: str
) -> None:
    """The chosen task can be pushed and run; another one fails with an error that names the line and the task."""
    task = await push(client, slug, f"{CHOOSES}# %%\n{line}\n")
    assert task.creation_state is state, task.creation_error_message
    assert error in task.creation_error_message
    if state is CreationState.COMPLETED:
        done = (await run(client, slug, "wrong"))[-1]
        assert done.state is RunState.COMPLETED
        assert noted in await log_text(client, done.id)
        await client.delete_task(slug)


async def test_a_second_run_in_flight_is_skipped(client: Client) -> None:
    """A second run of the same version and model at the same time is skipped, with the reason."""
    await ensure_pushed(client)
    first = await client.schedule_runs("two-plus-two", ["slow"])
    second = await client.schedule_runs("two-plus-two", ["slow", "four"])
    assert [r.run_scheduled for r in first + second] == [True, False, True]
    assert "in progress" in second[0].run_skipped_reason
    await ended(client, "two-plus-two")


async def test_a_live_log_arrives_during_the_run(client: Client) -> None:
    """The first lines of a log arrive before the run ends, and the stream ends after the state is terminal."""
    body = "print('begun')\nllm.prompt('x')\nreturn True"
    await push(client, "talks", task_source("talks", body))
    await client.schedule_runs("talks", ["slow"])
    states: list[RunState] = []
    while not states:
        (current,) = [r async for r in client.list_runs("talks")]
        try:
            async for entry in client.logs(current.id):
                if "begun" in entry.data:
                    states += [r.state async for r in client.list_runs("talks")]
        except NotFound:
            await anyio.sleep(0.02)  # queued: no log yet
    states += [r.state async for r in client.list_runs("talks")]
    assert states == [RunState.RUNNING, RunState.COMPLETED]


async def test_datasets_are_where_tasks_expect_them(client: Client, kaggle_folders: None) -> None:
    """A dataset is in /kaggle/input under its slug and its full name, also if another owner has one of this slug."""
    body = """from pathlib import Path
for path in sorted(Path("/kaggle/input").rglob("*.csv")): print(path, path.read_text().split())
print("relative", sorted(str(path) for path in Path("../input").glob("*")))
return True"""
    task = await push(client, "reads", task_source("reads", body), ["me/words", "you/words"])
    assert task.options is not None
    assert task.options.dataset_data_sources == ["me/words", "you/words"]
    assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
    (done,) = await run(client, "reads", "four")
    lines = [line for line in (await log_text(client, done.id)).splitlines() if "/words" in line]
    assert lines == [
        "/kaggle/input/datasets/me/words/words.csv ['word', 'alpha', 'beta']",
        "/kaggle/input/datasets/you/words/words.csv ['word', 'gamma']",
        "/kaggle/input/words/words.csv ['word', 'alpha', 'beta']",
        "relative ['../input/datasets', '../input/words']",
    ]


async def test_every_run_has_kaggles_folders_to_itself(
    client: Client, server: ServerProcess, kaggle_folders: None, tmp_path: Path
) -> None:
    """Runs at the same time write to the same absolute paths, and only what is in working is output."""
    body = """import os, time
os.makedirs("/kaggle/working/sub")
for place in ("/kaggle/working/sub/mine", "/kaggle/tmp/mine"): open(place, "w").write(llm.name)
llm.prompt("x")
print(os.getcwd(), os.listdir("/kaggle/temp"), open("/kaggle/working/sub/mine").read(), os.listdir("/kaggle/input"))
return True"""
    await push(client, "writes-there", task_source("writes-there", body))
    for done in await run(client, "writes-there", "slow", "four"):
        text = await log_text(client, done.id)
        assert f"/kaggle/working ['mine'] test/{done.model_version_slug} []\n" in text, text
        output = tmp_path / str(done.id)
        await client.download_output(done.id, output)
        assert (output / "sub/mine").read_text() == f"test/{done.model_version_slug}"
        assert [path for path in output.rglob("mine") if path.parent.name != "sub"] == []
        folder = server.data / "runs" / str(done.id)
        assert not (folder / "tmp").exists()
    assert not Path("/kaggle/working/sub/mine").exists()


NESTED = """
import os, sys, tempfile
from pathlib import Path
from fanbench.local.executor.job import Job
from fanbench.local.executor.mounts import attach
for parent in ("/tmp", "/kaggle/working"):
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        job = Job(folder=folder, environment={})
        job.working.mkdir()
        job.source.write_text("reads /kaggle/input")
        if (pid := os.fork()) == 0:
            start = attach(job, None)
            Path(start, "inner").touch()
            print(parent, start, [name in os.listdir("/kaggle/working") for name in ("outer", "inner")], flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
"""


async def test_a_real_kaggle_folder_stays_as_it_is(client: Client, kaggle_folders: None) -> None:
    """On a system with a /kaggle, a run has its own instead, unless the run needs something from the real one."""
    body = f"""import os, subprocess, sys
open("/kaggle/working/outer", "w")
done = subprocess.run([sys.executable, "-c", {NESTED!r}], capture_output=True, text=True)
print(done.stdout, done.stderr, "left:", os.path.exists("/kaggle/working/inner"))
return True"""
    await push(client, "nested", task_source("nested", body))
    (done,) = await run(client, "nested", "four")
    text = await log_text(client, done.id)
    assert "/tmp /kaggle/working [False, True]\n" in text, text
    assert re.search(r"^/kaggle/working /kaggle/working/\S+/working \[True, False\]$", text, re.M), text
    assert "is in the real /kaggle" in text
    assert "left: False\n" in text


async def test_a_new_version_runs_beside_the_old_one(client: Client) -> None:
    """A run of the version before does not prevent a run of the new version on the same model."""
    source = TASK.replace("two-plus-two", "versions")
    await push(client, "versions", source)
    (first,) = await client.schedule_runs("versions", ["slow"])
    await push(client, "versions", source)
    (second,) = await client.schedule_runs("versions", ["slow"])
    assert (first.run_scheduled, second.run_scheduled) == (True, True)
    await ended(client, "versions")


async def test_a_run_in_progress_has_no_output_yet(client: Client, tmp_path: Path) -> None:
    """The output of a run in progress is 404."""
    await ensure_pushed(client)
    await client.schedule_runs("two-plus-two", ["slow"])
    going = [r async for r in client.list_runs("two-plus-two") if not r.state.terminal]
    with pytest.raises(NotFound, match="no output yet"):
        await client.download_output(going[-1].id, tmp_path / "out")
    await ended(client, "two-plus-two")


async def test_unknown_datasets_are_named(client: Client) -> None:
    """A push with an unknown dataset is refused by name, and leaves no version."""
    with pytest.raises(NotFound, match="me/nothing"):
        await client.create_task("reads-nothing", to_notebook(TASK), datasets=["me/words", "me/nothing"])
    with pytest.raises(NotFound):
        await client.get_task("reads-nothing")


async def test_a_run_without_its_dataset_fails_by_name(
    client: Client, server: ServerProcess, datasets: Path
) -> None:
    """If a dataset of a task is gone, a run fails before the task starts, naming the dataset and the folder."""
    (datasets / "me/passing").mkdir()
    task = await push(client, "reads-passing", task_source("reads-passing", "return True"), ["me/passing"])
    assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
    (datasets / "me/passing").rmdir()
    (failed,) = await run(client, "reads-passing", "four")
    assert failed.state is RunState.ERRORED
    assert failed.error_message == (
        f"There is no dataset me/passing below {datasets}.\n"
        "Put it there, or name another folder with `fanbench serve --datasets DIR`."
    )


async def test_publish_is_idempotent_and_delete_frees_the_name(client: Client) -> None:
    """Publishing a public task changes nothing, and deleting a task frees its name."""
    source = task_source("published", "return True")
    await push(client, "published", source)
    only = await client.publish_task("published", publish_notebook=False)
    assert (only.is_public, only.is_backing_notebook_published) == (True, False)
    for _ in range(2):
        both = await client.publish_task("published")
        assert (both.is_public, both.is_backing_notebook_published) == (True, True)
    await client.delete_task("published")
    with pytest.raises(NotFound):
        await client.get_task("published")
    again = await push(client, "published", source)
    assert again.slug.version_number == 1


async def test_lists_filter_and_page(client: Client) -> None:
    """The regex and the status filter apply, and the pages add up to the list."""
    for slug in ("paged-a", "paged-b", "paged-c"):
        await push(client, slug, TASK)  # VALIDATION_FAILED: the name differs
    found = [t.slug.task_slug async for t in client.list_tasks(regex="^paged-", page_size=2)]
    assert found == ["paged-a", "paged-b", "paged-c"]
    failed = [t.slug.task_slug async for t in client.list_tasks(regex="^paged", status="validation_failed")]
    assert failed == found
    assert [t async for t in client.list_tasks(regex="^paged", status="completed")] == []
    with pytest.raises(BadRequest, match="regular expression"):
        _ = [t async for t in client.list_tasks(regex="(")]


async def test_wrong_names_are_refused(client: Client) -> None:
    """Unknown or invalid models, tasks, runs, owners, slugs and notebooks get the same status as on Kaggle."""
    await ensure_pushed(client)
    with pytest.raises(NotFound, match="nobody"):
        await client.schedule_runs("two-plus-two", ["four", "nobody"])
    assert [r async for r in client.list_runs("two-plus-two", models=["nobody"])] == []
    with pytest.raises(NotFound, match="nothing"):
        await client.get_task("nothing")
    with pytest.raises(Forbidden):
        await client.get_task("somebody/two-plus-two")
    assert (await client.get_task("local/two-plus-two")).slug.task_slug == "two-plus-two"
    for number in (987654, 0, -1, 2**70):
        with pytest.raises(NotFound):
            _ = [entry async for entry in client.logs(number)]
    with pytest.raises(BadRequest, match="not a task slug"):
        await client.create_task("Not A Slug", to_notebook(TASK))
    with pytest.raises(BadRequest, match=r"at most 255 characters; this one has 4,999"):
        await client.create_task("long-" * 999 + "name", to_notebook(TASK))
    with pytest.raises(BadRequest, match="not a notebook"):
        await client.create_task("rubbish", "no json")
    with pytest.raises(BadRequest, match="not a notebook"):
        await client.create_task("rubbish", '{"cells": 3}')


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_raw_requests_are_answered_as_errors_of_the_protocol(
    server: ServerProcess, prefix: str
) -> None:
    """Broken JSON, wrong types, unknown calls and wrong tokens come back as {code, message}."""
    url = f"{server.address.url}{prefix}/benchmarks.BenchmarkTasksApiService"
    good = {"authorization": f"Bearer {server.address.token}"}
    basic = httpx.BasicAuth("anybody", server.address.token)
    async with httpx.AsyncClient() as http:
        cases = [
            (await http.post(f"{url}/GetBenchmarkTask", content=b"{", headers=good), 400),
            (await http.post(f"{url}/GetBenchmarkTask", json={"slug": 3}, headers=good), 400),
            (await http.post(f"{url}/NoSuchCall", json={}, headers=good), 404),
            (await http.post(f"{url}/ListBenchmarkTasks", json={"pageToken": "x"}, headers=good), 400),
            (await http.post(f"{url}/ListBenchmarkTasks", json={}), 401),
            (
                await http.post(f"{url}/ListBenchmarkTasks", json={}, headers={"authorization": "Bearer no"}),
                401,
            ),
            (await http.post(f"{url}/ListBenchmarkTasks", json={}, auth=basic), 200),
        ]
    for response, status in cases:
        assert response.status_code == status, response.text
        if status != 200:
            assert response.json()["code"] == status
            assert response.json()["message"]


async def test_runs_at_efforts(client: Client) -> None:
    """A model runs at each of its efforts at the same time, is asked with it, and its runs are told apart."""
    await ensure_pushed(client)
    for effort in ("low", "high", ""):
        (result,) = await client.schedule_runs("two-plus-two", ["test/thinker"], effort=effort)
        assert result.run_scheduled
        assert result.run_id
        assert bool(result.benchmark_model_version_config_id) == bool(effort)
    answers = {}
    for label in ("thinker@low", "thinker@high", "thinker"):
        (found,) = await ended(client, "two-plus-two", label)
        log = await log_text(client, found.id)
        answers[found.effort] = [word for word in ("maybe 4", "4, surely", "not a thought") if word in log]
    assert answers == {"low": ["maybe 4"], "high": ["4, surely"], "": ["not a thought"]}


async def test_efforts_and_agents_that_the_server_lacks(client: Client) -> None:
    """An effort that the model lacks, and an agent, are refused with what there is, and nothing is scheduled."""
    await ensure_pushed(client)
    before = [each.id async for each in client.list_runs("two-plus-two")]
    with pytest.raises(BadRequest, match=r"thinker does not have .*'extreme', only low, high"):
        await client.schedule_runs("two-plus-two", ["thinker"], effort="extreme")
    with pytest.raises(BadRequest, match=r"four does not have .*'low', and takes no effort"):
        await client.schedule_runs("two-plus-two", ["thinker", "four"], effort="low")
    with pytest.raises(NotFound, match="no agents"):
        await client.schedule_runs("two-plus-two", agents=["coder-1.2"])
    assert [each.id async for each in client.list_runs("two-plus-two")] == before


async def test_the_numbers_of_configurations_last(client: Client) -> None:
    """Models at efforts have numbers of their own, which remain, and can be listed by the model's number."""
    models = {model.slug: model.id for model in await client.list_models()}
    configs = await client.list_configs()
    assert [(each.reasoning_effort, each.benchmark_model_version_id) for each in configs] == [
        ("low", models["thinker"]),
        ("high", models["thinker"]),
    ]
    assert await client.list_configs([models["thinker"]]) == configs
    assert await client.list_configs([models["four"]]) == []
    assert len({*models.values(), *(each.id for each in configs)}) == len(models) + len(configs)


async def test_tokens_and_quotas(client: Client, server: ServerProcess) -> None:
    """A proxy token has the URL of the proxy, quotas are counted, and tokens can be introspected."""
    token = await client.create_proxy_token()
    assert token.base_uri == f"{server.address.url}/models"
    assert token.expiry_time is not None
    quota = await client.task_quota()
    assert 0 <= quota.daily_quota_used < quota.total_daily_quota_allowed
    balances = (await client.proxy_quotas()).quota_balances
    assert [b.refill_period.value for b in balances] == ["DAILY", "MONTHLY"]
    assert (await client.introspect_token(server.address.token)).active
    assert not (await client.introspect_token("nonsense")).active


async def test_a_wrong_token_is_refused(server: ServerProcess) -> None:
    """A wrong token gives 401 with the path of the file that has the right one."""
    from fanbench import resolve_config

    async with Client(resolve_config(endpoint=server.address.url, token="wrong", env={})) as stranger:
        with pytest.raises(Unauthorized, match="token"):
            await stranger.get_task("two-plus-two")


async def test_the_start_page_leads_to_all_tasks(client: Client, server: ServerProcess) -> None:
    """`/` holds nothing, and with the token the addresses of the tasks' pages, which tell how to look at results."""
    await ensure_pushed(client)
    async with httpx.AsyncClient(base_url=server.address.url) as http:
        assert "two-plus-two" not in (await http.get("/")).text
        http.headers["authorization"] = f"Bearer {server.address.token}"
        lines = (await http.get("/")).text.splitlines()
        (line,) = (line for line in lines if "/two-plus-two " in line)
        of_task = await http.get(line.split()[0])
    assert "fanbench view results" in of_task.text
    assert "/  all tasks" in of_task.text.splitlines()
