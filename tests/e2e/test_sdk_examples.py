"""Some of the SDK's own task files record the same by `python FILE` as through the local server.

`python -m tests.e2e.both_ways` compares all of them, and any others.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.e2e.both_ways import compare
from tests.e2e.sdk_files import NotFetched, sdk_task_files

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Judges and tools.
CHOSEN = ["examples-assess_with_a_judge.py", "examples-prompt_with_tools.py"]
#: Tables of data, the SDK's other client, tasks of tasks, and one without anything.
MORE = [
    "examples-dataset_evaluation.py",
    "examples-multiply_genai.py",
    "examples-simple_task.py",
    "guides-cryptography.py",
]


@pytest.mark.parametrize(
    "names", [CHOSEN, pytest.param(MORE, marks=pytest.mark.long)], ids=["chosen", "more"]
)
def test_the_sdks_own_files_record_the_same(tmp_path: Path, names: list[str]) -> None:
    """Each file leaves the same tasks, states, results and assertions either way, and the check accepts it."""
    try:
        files = {path.name: path for path in sdk_task_files(Path(sys.prefix) / "sdk-files")}
    except NotFetched as reason:
        pytest.skip(str(reason))
    compared = anyio.run(partial(compare, [files[name] for name in names], tmp_path))
    assert [str(each) for each in compared if each.verdict != "same" or "error" in each.check] == []
