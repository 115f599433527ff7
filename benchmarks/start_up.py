"""Measure the startup of a command: `fanbench tasks run --help` and `kaggle b t run --help`.

    python benchmarks/start_up.py [--times 15]

The programs run alternately. The report has medians of wall and CPU time, and what is imported: each of our modules and
each other package with its share of the time, according to `python -X importtime`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

from commands import BIN

COMMANDS = {
    "fanbench tasks run --help": [str(BIN / "fanbench"), "tasks", "run", "--help"],
    "kaggle b t run --help": [str(BIN / "kaggle"), "b", "t", "run", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}
# The standard library's `copy` tries to import `org.python.core`, to detect Jython.
PYTHONS = sys.stdlib_module_names | {"org"}
HEAVIEST = 12
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")


def took(command: Sequence[str]) -> tuple[float, float]:
    """Return the wall and CPU time of `command` in milliseconds."""
    # The vendor's program requires credentials even for --help.
    environment = os.environ | {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "0" * 32}
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return (time.perf_counter() - start) * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def new_imports(command: Sequence[str]) -> list[tuple[str, float]]:
    """Return each module with its own milliseconds, without those that a bare Python imports."""
    bare = {name for name, _ in _import_lines([sys.executable, "-X", "importtime", "-c", "pass"])}
    return [line for line in _import_lines(command) if line[0] not in bare]


def imports(command: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the milliseconds and the number of modules for each package."""
    lines = new_imports(command)
    total = sum(ms for _, ms in lines)
    packages: defaultdict[str, list[float]] = defaultdict(list)
    for name, ms in lines:
        top = name.partition(".")[0]
        packages["Python's own" if top in PYTHONS else top].append(ms)
    shares = {
        name: {"modules": len(each), "ms": round(sum(each), 1), "share": round(sum(each) / total, 2)}
        for name, each in packages.items()
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]["ms"]))


def _import_lines(command: Sequence[str]) -> list[tuple[str, float]]:
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return [(match[2], int(match[1]) / 1000) for match in LINE.finditer(text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=15)
    times = parser.parse_args().times
    for command in COMMANDS.values():
        took(command)
    taken = [{name: took(command) for name, command in COMMANDS.items()} for _ in range(times)]
    report: dict[str, object] = {"cores": os.cpu_count(), "python": sys.version.split()[0], "times": times}
    for name in COMMANDS:
        report[name] = {
            "ms": round(statistics.median(each[name][0] for each in taken)),
            "CPU ms": round(statistics.median(each[name][1] for each in taken)),
        }
    mine, theirs, _ = COMMANDS
    ratios = [each[mine][0] / each[theirs][0] for each in taken]
    report["ratio"] = round(statistics.median(ratios), 3)
    started = "import sys; from fanbench.cli import main; main(['tasks', 'run', '--help'])"
    command = [sys.executable, "-X", "importtime", "-c", started]
    report["imported"] = imports(command)
    heaviest = sorted(new_imports(command), key=lambda line: -line[1])[:HEAVIEST]
    report["heaviest modules, ms"] = {name: round(ms, 1) for name, ms in heaviest}
    report["modules of fanbench"] = sorted(name for name, _ in new_imports(command) if "fanbench" in name)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
