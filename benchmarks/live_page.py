"""Measure the page of `fanbench view` while a sweep of 3,600 runs changes 1,000 times a second.

Prints the frames that a browser shows a second, the changes that reach it, and the memory and CPU of the server. The
journal is written by this process as a sweep would, with run files for every run that ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from tests.results.build import passed, write

from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog, SavedOutput
from fanbench.sweeps.folder import lock_folder
from fanbench.sweeps.journal import Journal
from fanbench.wire.messages import RunState

CHROMIUM = "/usr/bin/chromium"
TASKS, MODELS, REPEATS = 20, 60, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1000, help="changes a second")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="fanbench-live-") as folder, lock_folder(Path(folder)):
        measure(Path(folder), arguments.seconds, arguments.rate)


def measure(root: Path, seconds: float, rate: float) -> None:
    attempts = [
        Attempt(
            PlannedRun(f"task-{task:02}", f"model-{model:02}", repeat + 1),
            1,
            f"content-1:{task}",
            1,
            Phase.FOUND,
            time.time(),
            run_id,
        )
        for run_id, (task, model, repeat) in enumerate(
            (
                (task, model, repeat)
                for task in range(TASKS)
                for model in range(MODELS)
                for repeat in range(REPEATS)
            ),
            1,
        )
    ]
    with Journal.open(root) as journal:
        # Half of the runs have ended before, so that there are scores.
        ended = [end(root, attempt) for attempt in attempts[::2]]
        journal.save_attempts([*ended, *attempts[1::2]])
        command = [sys.executable, "-m", "fanbench", "view", str(root), "--no-open"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            assert server.stdout is not None
            began = time.perf_counter()
            address = server.stdout.readline().strip()
            print(f"the server begins after {time.perf_counter() - began:.1f} s with {len(attempts):,} runs")
            stop = threading.Event()
            changes = threading.Thread(target=change, args=(journal, attempts[1::2], rate, stop))
            try:
                show(address, changes, seconds)
                print_costs(server.pid)
            finally:
                stop.set()
                changes.join()
                server.terminate()


def end(root: Path, attempt: Attempt) -> Attempt:
    """Write the files of a run that has ended."""
    planned = attempt.planned_run
    folder = root / planned.task / "1" / planned.model / str(attempt.run_id)
    seed = hash((planned.task, planned.model, planned.repeat)) % 100
    content = passed(seed < 60, planned.task, modelVersion={"slug": f"owner/{planned.model}"})
    write(folder / "a.run.json", content)
    folder.with_name(f"{attempt.run_id}.log").write_text("done\n")
    path = str(folder.relative_to(root))
    return msgspec.structs.replace(
        attempt,
        phase=Phase.ENDED,
        state=RunState.COMPLETED,
        output=SavedOutput(path, 1, 1, "d"),
        log=SavedLog(f"{path}.log", 1, 5),
    )


def change(journal: Journal, attempts: list[Attempt], rate: float, stop: threading.Event) -> None:
    """Change attempts at this rate: each is running, or has errored and is running again, in turn."""
    states = {attempt: cycle((RunState.ERRORED, None)) for attempt in attempts}
    began = time.monotonic()
    for done, attempt in enumerate(cycle(attempts), 1):
        if stop.is_set():
            return
        state = next(states[attempt])
        phase = Phase.FOUND if state is None else Phase.ENDED
        journal.save_attempts([msgspec.structs.replace(attempt, phase=phase, state=state)])
        time.sleep(max(0.0, began + done / rate - time.monotonic()))


FRAMES = """async (seconds) => {
  const times = [];
  await new Promise((resolve) => {
    const end = performance.now() + seconds * 1000;
    const frame = (now) => { times.push(now); if (now < end) requestAnimationFrame(frame); else resolve(); };
    requestAnimationFrame(frame);
  });
  const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  return { frames: gaps.length / seconds, slowest: gaps[Math.floor(gaps.length * 0.99)] };
}"""


def show(address: str, changes: threading.Thread, seconds: float) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector("main section")
        for name, running in (("at rest", False), ("changing", True)):
            if running:
                changes.start()
                time.sleep(1)
            found = page.evaluate(FRAMES, seconds / 2)
            print(f"{name}: {found['frames']:.0f} frames/s, 99% within {found['slowest']:.0f} ms")
        browser.close()


def print_costs(pid: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    ticks = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    print(f"the server: {int(peak) / 1000:.0f} MB at most, {sum(map(int, ticks)) / 100:.1f} s of CPU in all")


if __name__ == "__main__":
    main()
