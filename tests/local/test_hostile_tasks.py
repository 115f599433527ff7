"""Task files that misbehave: each gets a clear error, and the server continues as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from fanbench import Client
from fanbench.wire.messages import RunState

from .server_process import (
    SECRET,
    ServerProcess,
    command_line,
    ended,
    ensure_pushed,
    found_pid,
    log_text,
    print_pid,
    printed_pid,
    processes_with,
    push,
    run,
    task_source,
)

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def only_when_run(body: str) -> str:
    """`body` for every model but the default one, so that the creation succeeds."""
    inner = "\n".join(f"    {line}" for line in body.splitlines())
    return f"if llm.name != 'test/four':\n{inner}\nreturn True"


STUCK = {
    "never-ends": "import time\nwhile True: time.sleep(1)",
    "ignores-interrupts": "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nwhile True: time.sleep(1)",
    "shows-something": "print('so far', flush=True)\nimport time\ntime.sleep(60)",
}


@pytest.fixture(scope="module", autouse=True)
async def stuck(server: ServerProcess) -> None:
    """Start the runs that do not end, so that they reach the time limit while the other tests run."""
    async with server.client() as client:
        for slug, body in STUCK.items():
            await push(client, slug, task_source(slug, only_when_run(body)))
            await client.schedule_runs(slug, ["wrong"])


@pytest.mark.parametrize(
    ("slug", "body", "words"),
    [
        ("os-exit", "import os; os._exit(1)", "exit code 1 before the notebook"),
        ("os-exit-zero", "import os; os._exit(0)", "exit code 0 before the notebook"),
        ("segfault", "import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("kills-itself", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        # Python has no name for a real-time signal.
        ("real-time-signal", "import os; os.kill(os.getpid(), 40)", "signal 40"),
        ("eats-memory", "x = bytearray(3_000_000_000)", "--run-memory"),
        (
            "eats-memory-with-children",
            "import subprocess, sys\ncode = 'import time; x = bytearray(500_000_000); time.sleep(60)'\n"
            "for child in [subprocess.Popen([sys.executable, '-c', code]) for _ in range(3)]: child.wait()",
            "MB of memory, over the server's limit (--run-memory)",
        ),
        (
            "fills-the-disk",
            "import time\nfile = open('big', 'wb')\nfor _ in range(40): file.write(bytes(1_000_000))\n"
            "file.flush()\ntime.sleep(60)",
            "MB, over the server's limit (--run-disk)",
        ),
        ("raises", "raise RuntimeError('out of ideas')", "out of ideas"),
        ("torn-text", r"raise SystemExit('torn \udcff apart \0')", "torn \ufffd apart \ufffd"),
        ("exits-three", "import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
async def test_the_run_errors_with_the_reason(client: Client, slug: str, body: str, words: str) -> None:
    """The run is ERRORED, its message has the reason, and the next run of another task completes."""
    await push(client, slug, task_source(slug, only_when_run(body)))
    (bad,) = await run(client, slug, "wrong")
    assert bad.state is RunState.ERRORED
    assert words in bad.error_message
    await ensure_pushed(client)
    await client.schedule_runs("two-plus-two", ["four"])
    good = (await ended(client, "two-plus-two", "four"))[-1]
    assert good.state is RunState.COMPLETED


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.Popen([sys.executable, '-c', code], start_new_session=True)",
        "subprocess.Popen([sys.executable, '-c', code], start_new_session=True, env={})",
        "subprocess.Popen(['sh', '-c', shell], start_new_session=True)",
        "daemon()",
    ],
    ids=["session", "no-environment", "grandchild", "fork-only"],
)
async def test_nothing_that_a_run_started_is_left(client: Client, start: str) -> None:
    """A process is gone when its run is, whatever session, environment or parent it gave itself."""
    seconds = 100_000 + os.getpid()  # known to nobody else on this machine
    before = f"""
import os, signal, subprocess, sys, time
SECONDS = {seconds}
shell = 'sleep {seconds} & touch started; exec sleep {seconds}'
code = "import signal, time; signal.signal(15, signal.SIG_IGN); open('started', 'w'); time.sleep({seconds})"

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            {print_pid()}
            open("started", "w")
            time.sleep(SECONDS)
        os._exit(0)
"""
    body = only_when_run(f"{start}\nwhile not os.path.exists('started'): time.sleep(0.01)")
    await push(client, "strays", task_source("strays", body, before=before))
    (done,) = await run(client, "strays", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message
    assert processes_with(str(seconds)) == []
    if start == "daemon()":
        assert found_pid(await log_text(client, done.id)) is None


async def test_a_runs_key_ends_with_it(client: Client, server: ServerProcess) -> None:
    """A Model Proxy key that a run printed is refused afterwards."""
    body = "import os\nprint('key', os.environ['MODEL_PROXY_API_KEY'])\nreturn True"
    await push(client, "prints-key", task_source("prints-key", body))
    (done,) = await run(client, "prints-key", "four")
    key = (await log_text(client, done.id)).split("key ")[1].split()[0]
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            f"{server.address.url}/models/openapi/chat/completions",
            json={"model": "test/four", "messages": []},
            headers={"authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


async def test_datasets_cannot_be_written(client: Client, datasets: Path, kaggle_folders: None) -> None:
    """A task that writes below /kaggle/input fails; the dataset stays as it was."""
    places = ["/kaggle/input/words", "/kaggle/input/datasets/me/words"]
    body = f"""for place in {places}:
    try: open(place + '/new', 'w')
    except OSError as error: print(error.strerror)
return True"""
    await push(client, "writes", task_source("writes", body), ["me/words"])
    (done,) = await run(client, "writes", "four")
    assert sorted(path.name for path in (datasets / "me/words").iterdir()) == ["words.csv"]
    assert (await log_text(client, done.id)).count("Read-only file system") == 2


async def test_a_task_may_delete_all_of_its_files(client: Client, kaggle_folders: None) -> None:
    """A task that deletes the folder it runs in still leaves a run file."""
    body = "import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True)"
    await push(client, "deletes-folder", task_source("deletes-folder", only_when_run(body)))
    (done,) = await run(client, "deletes-folder", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message


async def test_no_second_view_of_the_system_is_in_a_runs_folder(
    client: Client, server: ServerProcess, kaggle_folders: None
) -> None:
    """A task that deletes the folder that its run has on the server deletes nothing else."""
    body = f"""import os
for folder, names, files in os.walk({str(server.data / "runs")!r}): print("walked", folder, len(names))
return True"""
    await push(client, "walks", task_source("walks", only_when_run(body)))
    (done,) = await run(client, "walks", "wrong")
    walked = re.findall(r"walked (\S+/root)\S* (\d+)", await log_text(client, done.id))
    assert {count for _, count in walked} == {"0"}


async def test_forks_draw_different_numbers(client: Client) -> None:
    """Two runs of the same parent do not share numpy's or Python's random state."""
    body = "import numpy, random\nprint('drawn', numpy.random.random(), random.random())\nreturn True"
    await push(client, "draws", task_source("draws", body))
    drawn = []
    for _ in range(2):
        latest = (await run(client, "draws", "four"))[-1]
        drawn.append((await log_text(client, latest.id)).split("drawn ")[1].splitlines()[0].split())
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


async def test_a_clean_exit_is_no_error(client: Client) -> None:
    """sys.exit(0) in a cell after the task ends the notebook without a failure."""
    await push(
        client, "exits-cleanly", task_source("exits-cleanly", "return True", after="import sys; sys.exit(0)")
    )
    (done,) = await run(client, "exits-cleanly", "four")
    assert done.state is RunState.COMPLETED, done.error_message


async def test_binary_output_becomes_text(client: Client) -> None:
    """Bytes that are not UTF-8 become replacement characters in the log, and the lines around them stay whole."""
    body = only_when_run(
        "import os\nos.write(1, b'before\\n\\xff\\xfe\\x00\\nafter \\xc3')\nos.write(1, b'\\xa9\\n')"
    )
    await push(client, "binary", task_source("binary", body))
    (done,) = await run(client, "binary", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message
    assert "before\n\ufffd\ufffd\x00\nafter é\n" in await log_text(client, done.id)


async def test_a_flood_of_output_is_cut_where_the_limit_says(client: Client) -> None:
    """A run that prints 100 MB completes, and its log has the first 2 MB and a note that it ends there."""
    body = only_when_run("line = 'x' * 999_999\nfor _ in range(100): print(line)")
    await push(client, "flood", task_source("flood", body))
    (done,) = await run(client, "flood", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message
    text = await log_text(client, done.id)
    assert 2_000_000 <= len(text) < 2_400_000
    assert "--log-limit" in text[-200:]


async def test_links_out_of_the_folder_are_not_sent(client: Client, tmp_path: Path) -> None:
    """A link in the working folder does not carry files of this machine into the output."""
    body = "import os\nos.symlink('/etc', 'etc')\nos.symlink('/etc/passwd', 'p')\nopen('mine.txt','w').write('x')"
    await push(client, "links", task_source("links", only_when_run(body)))
    (done,) = await run(client, "links", "wrong")
    await client.download_output(done.id, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert "mine.txt" in names
    assert not names & {"etc", "p", "passwd"}


LOOKING = """
import json, os, pathlib, subprocess
def look(path):
    try: return path.read_bytes()[:4000].decode("latin-1") if path.is_file() else str(sorted(os.listdir(path)))
    except OSError as error: return error.strerror
print("SEEN", json.dumps({str(path): look(pathlib.Path(path)) for path in PATHS}))
subprocess.run(["umount", DATA], stderr=subprocess.DEVNULL)
subprocess.run(["unshare", "-rm", "umount", DATA], stderr=subprocess.DEVNULL)
print("AFTER", json.dumps(look(pathlib.Path(DATA, "token"))))
pathlib.Path.home().joinpath("fanbench-test-of-a-hidden-home").write_text("x")
pathlib.Path(DATA, "token").write_text("x")
"""


async def test_a_run_sees_neither_the_server_nor_others(
    client: Client, server: ServerProcess, kaggle_folders: None
) -> None:
    """The data folder, the home folder and the server's memory are not to be seen or changed, by no way around."""
    await ensure_pushed(client)
    other = (await run(client, "two-plus-two", "wrong"))[-1]
    data, home, pid = server.data, Path.home(), server.address.pid
    paths = [data, data / "token", data / "state.sqlite", data / "runs", data / f"runs/{other.id}", home]
    paths += [Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/root{data}"), Path(f"/proc/{pid}/cwd")]
    before = f"PATHS, DATA = {[str(path) for path in paths]!r}, {str(data)!r}\n"
    await push(client, "looks", task_source("looks", only_when_run(before + LOOKING)))
    (done,) = await run(client, "looks", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message
    log = await log_text(client, done.id)
    seen = json.loads(log.split("SEEN ")[1].splitlines()[0])
    assert seen[str(data)] == "['environments', 'runs']"
    assert seen[str(data / "runs")] == f"['{done.id}']"
    gone, denied = "No such file or directory", "Permission denied"
    assert {
        seen[str(path)] for path in (data / "token", data / "state.sqlite", data / f"runs/{other.id}")
    } == {gone}
    assert {seen[str(path)] for path in paths[6:]} <= {denied, gone}
    assert json.loads(log.split("AFTER ")[1].splitlines()[0]) == gone
    assert not (home / "fanbench-test-of-a-hidden-home").exists()
    assert (data / "token").read_text().strip() == server.address.token
    assert not (data / f"runs/{done.id}/covers").exists()


PRYING = """
import ctypes, json, os, pathlib, signal, subprocess, tempfile
def reason(do, *arguments):
    try: return "no error: " + str(do(*arguments))[:500]
    except OSError as error: return error.strerror
def climb():
    os.makedirs("cage", exist_ok=True)
    os.chroot("cage")
    os.chdir("../" * 40)
    os.chroot(".")
    return os.path.exists(DATA + "/token")
def fork(do):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, reason(do).encode())
        os._exit(0)
    return os.read(reader, 1000).decode()
temporary = pathlib.Path(tempfile.gettempdir())
shared = pathlib.Path("/dev/shm/fanbench-test-of-shared-memory")
before = sorted(os.listdir(temporary)) + os.listdir("/dev/shm")
for place in (temporary / "fanbench-test-of-a-hidden-tmp", shared): place.write_text("x")
print("PRIED", json.dumps({
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "signal": reason(os.kill, SERVER, 0),
    "init": [reason(os.listdir, f"/proc/1/{name}") for name in ("root", "cwd", "map_files")],
    "before": before,
    "climb": fork(climb),
    "device": reason(os.mknod, "disk", 0o60600, os.makedev(8, 0)),
    "unmount": ctypes.CDLL(None).umount2(b"/tmp", 2),
    "packets": [reason(socket.socket, *kind) for kind in RAW],
    "mine": os.getpid(),
}))
"""


async def test_a_run_reaches_no_process_but_its_own(
    client: Client, server: ServerProcess, own_processes: None
) -> None:
    """A run sees no other processes, cannot undo what hides them, reads no packets of others, and has its own /tmp."""
    before = f"DATA, SERVER = {str(server.data)!r}, {server.address.pid}\n"
    before += "import socket\nRAW = (socket.AF_PACKET, socket.SOCK_RAW, 768), (socket.AF_INET, socket.SOCK_RAW, 6)\n"
    await push(client, "pries", task_source("pries", only_when_run(before + PRYING)))
    (done,) = await run(client, "pries", "wrong")
    assert done.state is RunState.COMPLETED, done.error_message
    pried = json.loads((await log_text(client, done.id)).split("PRIED ")[1].splitlines()[0])
    assert pried["processes"] == [1, pried["mine"]]
    assert pried["signal"] == "No such process"
    assert set(pried["init"]) == {"Permission denied"}
    # The data folder of this server, its Python and its packages may be below /tmp.
    needed = [server.data, Path(sys.prefix), Path(__file__)]
    assert set(pried["before"]) <= {part for place in needed for part in place.parts}
    assert pried["climb"] in ("no error: False", "Operation not permitted")
    assert pried["device"] == "Operation not permitted"
    assert pried["unmount"] == -1
    assert set(pried["packets"]) == {"Operation not permitted"}
    left = [Path(tempfile.gettempdir(), "fanbench-test-of-a-hidden-tmp")]
    assert not [place for place in (*left, Path("/dev/shm/fanbench-test-of-shared-memory")) if place.exists()]


async def test_the_environment_in_proc_holds_no_secret(client: Client) -> None:
    """Neither a run's own initial environment nor that of its parent has the server's variables."""
    body = """import os
for place in ("self", os.getppid()):
    try: print("ENV", open(f"/proc/{place}/environ").read())
    except OSError as error: print("ENV", error)
return True"""
    await push(client, "proc", task_source("proc", body))
    done = (await run(client, "proc", "four"))[-1]
    text = await log_text(client, done.id)
    assert text.count("ENV") == 2
    assert SECRET not in text
    assert "SOME_API_KEY" not in text


async def test_settings_of_the_kernel_cannot_be_changed(client: Client) -> None:
    """A run that is executed as root cannot even write back a setting of the machine as it is."""
    body = """
try:
    with open("/proc/sys/kernel/core_pattern", "r+") as file:
        text = file.read(); file.seek(0); file.write(text)
    print("WRITTEN")
except OSError as error:
    print("REFUSED")
return True"""
    await push(client, "settings", task_source("settings", body))
    done = (await run(client, "settings", "four"))[-1]
    assert "REFUSED" in await log_text(client, done.id)


async def test_a_planted_zip_is_not_sent(client: Client, server: ServerProcess, tmp_path: Path) -> None:
    """A link where a zip could be, beside the working folder of a run, does not carry the server's token away."""
    token = server.data / "token"
    body = f"""import os
runs = {str(server.data / "runs")!r}
folder = max((os.path.join(runs, name) for name in os.listdir(runs)), key=os.path.getmtime)
for name in ('output.zip', 'output-source.zip', 'executed.ipynb'):
    try: os.symlink({str(token)!r}, os.path.join(folder, name))
    except OSError as error: print(error)"""
    await push(client, "plants", task_source("plants", only_when_run(body)))
    (done,) = await run(client, "plants", "wrong")
    for full in (False, True):
        await client.download_output(done.id, tmp_path / str(full), include_source=full)
    sent = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert sent
    assert not [content for content in sent if server.address.token.encode() in content]


async def test_a_run_sees_no_secret_of_the_server(client: Client, server: ServerProcess) -> None:
    """The environment of a run holds its own proxy key, not the server's variables or token."""
    body = "import os, json\nprint('ENV', json.dumps(dict(os.environ)))\nreturn True"
    await push(client, "env", task_source("env", body))
    (done,) = await run(client, "env", "four")
    text = await log_text(client, done.id)
    assert '"MODEL_PROXY_API_KEY": "fbp-' in text
    assert server.address.token not in text
    assert SECRET not in text


async def test_a_broken_model_fails_its_run_only(client: Client) -> None:
    """The error has the model and its message, and the other model's run of the same task completes."""
    await ensure_pushed(client)
    runs = await run(client, "two-plus-two", "broken", "four")
    states = {r.model_version_slug: r for r in runs[-2:]}
    assert states["four"].state is RunState.COMPLETED
    assert states["broken"].state is RunState.ERRORED
    assert "model test/broken: this model is broken" in states["broken"].error_message


@pytest.mark.parametrize("slug", STUCK)
async def test_a_run_is_stopped_at_the_time_limit(client: Client, slug: str) -> None:
    """A run that does not end is interrupted, or else killed; its message names the limit."""
    (done,) = await ended(client, slug, "wrong")
    assert done.state is RunState.ERRORED
    assert "stopped after 12 s" in done.error_message


async def test_a_stopped_run_keeps_what_it_had_shown(client: Client, tmp_path: Path) -> None:
    """A run at the time limit is interrupted before it is killed: its notebook has the output so far."""
    (done,) = await ended(client, "shows-something", "wrong")
    await client.download_output(done.id, tmp_path / "out", include_source=True)
    assert "so far" in (tmp_path / "out/__notebook__.ipynb").read_text()


async def test_deleting_a_task_ends_its_run_at_once(client: Client, server: ServerProcess) -> None:
    """When delete returns, the process of the run and its files no longer exist."""
    body = only_when_run(f"import os, time\n{print_pid()}\ntime.sleep(60)")
    await push(client, "deleted", task_source("deleted", body))
    await client.schedule_runs("deleted", ["wrong"])
    (going,) = [r async for r in client.list_runs("deleted")]
    log = server.data / f"logs/{going.id}.jsonl"
    pid = await printed_pid(log)
    assert command_line(pid)
    await client.delete_task("deleted")
    assert not command_line(pid)
    assert not log.exists()
    assert not (server.data / f"runs/{going.id}").exists()
