"""The rules for decorators and annotations, compared with the SDK's own checks."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import types
import typing
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fanbench.tasks.lint import lint

# Importing the SDK here would change asyncio for all tests: it applies nest_asyncio.
with_sdk = pytest.mark.skipif(find_spec("kaggle_benchmarks") is None, reason="The SDK is not installed.")

HEAD = "import kaggle_benchmarks as kbench\n"


class Form(NamedTuple):
    """A way to write a task. `loads` is whether the SDK makes a task of it; `None` if that is only known then."""

    loads: bool | None
    annotation: str = ""
    decorator: str = "@kbench.task()"
    before: str = ""

    @property
    def source(self) -> str:
        arrow = f" -> {self.annotation}" if self.annotation else ""
        return f"{self.before}\n{self.decorator}\ndef f(llm){arrow}: ...\nf.run(kbench.llm)\n"


UNKNOWN = None
FORMS = [
    Form(True),
    *(Form(True, text) for text in ("None", "bool", "int", "float", "dict", "object")),
    *(Form(True, text) for text in ("tuple[float, float]", "tuple[int,int]", "(float)", "float | float")),
    *(Form(False, text) for text in ("str", "list", "tuple", "complex", "bytes", "type", "Exception")),
    *(
        Form(False, text)
        for text in ("dict[str, float]", "list[float]", "tuple[float, int]", "tuple[bool, bool]")
    ),
    *(Form(False, text) for text in ("bool | None", "float | int", "'bool'", "'None'", "0", "True", "...")),
    *(Form(False, text) for text in ("(float, float)", "[float]", "{}", "{float}")),
    Form(True, "Score", before="Score = float"),
    Form(True, "Pair", before="Number = float\nPair = tuple[Number, Number]"),
    Form(True, "Score", before="from typing import TypeAlias\nScore: TypeAlias = float"),
    Form(True, "Nothing", before="Nothing = None"),
    Form(False, "Text", before="Text = str"),
    Form(True, "builtins.float", before="import builtins"),
    Form(True, "Real", before="from builtins import float as Real"),
    Form(False, "typing.Tuple[float, float]", before="import typing"),
    Form(False, "t.Dict[str, float]", before="import typing as t"),
    Form(False, "Dict", before="from typing import Dict"),
    Form(False, "Any", before="from typing import Any"),
    Form(False, "Optional[float]", before="from typing import Optional"),
    Form(True, "Union[float, float]", before="from typing import Union"),
    Form(False, "Union[float, int]", before="from typing import Union"),
    Form(False, "types.NoneType", before="import types"),
    Form(False, "decimal.Decimal", before="import decimal"),
    Form(False, "Verdict", before="class Verdict: ..."),
    Form(False, "dict[str, kbench.LLMChat]"),
    Form(UNKNOWN, "kbench.LLMChat"),
    Form(UNKNOWN, "Score", before="Score = type(0.5)"),
    Form(UNKNOWN, "Score", before="Score = str\nScore = float"),
    Form(UNKNOWN, "pd.DataFrame", before="import pandas as pd"),
    Form(True, "list", before="class Words(kbench.results.Result[list]): ..."),
    Form(True, "W", before="class W: ...\nclass Words(kbench.results.Result[W]): ..."),
    Form(
        True,
        "dict[str, float]",
        before="from kaggle_benchmarks.results import Result as R\nclass Scores(R[dict[str, float]]): ...",
    ),
    Form(
        True,
        "list[float]",
        before="from kaggle_benchmarks import results\nresults.types[list[float]] = results.Score",
    ),
    Form(False, "set", before="class Words(kbench.results.Result[list]): ..."),
    Form(False, "float", before="from __future__ import annotations"),
    Form(False, "None", before="from __future__ import annotations"),
    Form(True, before="from __future__ import annotations"),
    Form(True, decorator="@kbench.benchmark('B')"),
    Form(True, decorator="@kbench.task('A', description='d', version=2, store_task=False, store_run=False)"),
    Form(False, decorator="@kbench.task"),
    Form(False, "float", decorator="@kbench.task"),
    Form(False, decorator="@kbench.benchmark"),
    Form(False, decorator="@task", before="from kaggle_benchmarks import task"),
    Form(False, decorator="@kbench.task('A', 'B')"),
    Form(False, decorator="@kbench.task(title='A')"),
    Form(True, decorator="@quiet", before="quiet = kbench.task(store_run=False)"),
    Form(
        UNKNOWN, "str", decorator="@kbench.task()\n@plain", before="def plain(f): return lambda llm: f(llm)"
    ),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.source.strip().replace("\n", "; "))
def test_a_task_that_the_sdk_rejects_is_an_error(form: Form) -> None:
    """What the SDK rejects is an error, what it accepts has no finding, and what depends is a warning.

    Two ints, which it accepts, have a rule of their own.
    """
    source = with_import(form)
    levels = {finding.level for finding in lint(ast.parse(source), source)[1] if finding.rule != "counts"}
    assert levels == {True: set(), False: {"error"}, None: {"warning"}}[form.loads]


def with_import(form: Form) -> str:
    future, _, rest = form.source.partition("\n")
    return f"{future}\n{HEAD}{rest}" if "__future__" in future else HEAD + form.source


# --- Any annotation ------------------------------------------------------------------------------------------

# What the SDK registers, as the tests with the SDK below confirm.
REGISTERED = {bool, dict, float, int, object, tuple[float, float], tuple[int, int]}
NAMES = {"typing": typing, "types": types, "Score": float, "Pair": tuple[float, float], "Text": str}
BEFORE = "import typing, types\nScore = float\nPair = tuple[Score, Score]\nText = str\n"
ATOMS = [
    "bool",
    "int",
    "float",
    "dict",
    "object",
    "str",
    "list",
    "None",
    "Score",
    "Pair",
    "Text",
    "typing.Any",
]
ANNOTATIONS = st.recursive(
    st.sampled_from([*ATOMS, "types.NoneType", "typing.Dict"]),
    lambda inner: st.one_of(
        st.builds("{} | {}".format, inner, inner),
        st.builds("tuple[{}, {}]".format, inner, inner),
        st.builds("typing.Union[{}, {}]".format, inner, inner),
        st.builds("typing.Optional[{}]".format, inner),
        st.builds("typing.Tuple[{}, {}]".format, inner, inner),
        st.builds("dict[{}, {}]".format, inner, inner),
        st.builds("list[{}]".format, inner),
        st.builds("({})".format, inner),
    ),
    max_leaves=4,
)


@given(ANNOTATIONS)
@example("typing.Optional[None]")
@settings(max_examples=100, deadline=None)
def test_any_annotation_is_judged_as_the_sdk_does(text: str) -> None:
    """What stands for a registered type has no finding but a warning for two ints; everything else is an error."""
    try:
        value = eval(text, dict(NAMES))
    except TypeError:
        assume(False)  # such as None | None, which Python itself refuses
    source = f"{BEFORE}{HEAD}{Form(None, text).source}"
    levels = {finding.level for finding in lint(ast.parse(source), source)[1]}
    known = {"warning"} if value == tuple[int, int] else set()
    assert levels == (known if value is None or value in REGISTERED else {"error"})


# --- The real SDK -------------------------------------------------------------------------------------------

# Without the call, which would need a model.
SOURCES = [with_import(form).replace("f.run(kbench.llm)\n", "") for form in FORMS]
PREVIOUS = "0.6.1"
PROBE = """
import json, sys
import kaggle_benchmarks
from kaggle_benchmarks.tasks import Task
assert sys.argv[1] in kaggle_benchmarks.__file__
answers = []
for source in json.load(sys.stdin):
    names = {"__name__": "task_file"}
    try:
        exec(compile(source, "task.py", "exec", dont_inherit=True), names)
        answers.append(isinstance(names["f"], Task))
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


def ask_sdk(folder: Path, sources: list[str], path: str = "") -> list[bool | str]:
    """For each source whether it makes a task of `f`, or the exception, in a process with the real SDK."""
    environment = os.environ | {"PYTHONPATH": path, "BENCHMARK_MODE": "TESTING"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, path],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
    )
    answers: list[bool | str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def assert_agreement(answers: list[bool | str]) -> None:
    """Fail if the SDK made a task of a form that it should reject, or rejected one that it should accept."""
    differences = [
        (form.source, answer)
        for form, answer in zip(FORMS, answers, strict=True)
        if form.loads is not None and form.loads is not (answer is True)
    ]
    assert differences == []


@with_sdk
@pytest.mark.slow
def test_the_installed_sdk_agrees(tmp_path: Path) -> None:
    """The installed SDK makes a task of every form that has no error, and of no other."""
    assert_agreement(ask_sdk(tmp_path, SOURCES))


@with_sdk
@pytest.mark.long
def test_the_previous_sdk_agrees(tmp_path: Path) -> None:
    """The SDK's previous version agrees as well, on what the installed one needs."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--retries=0",
    ]
    target = tmp_path / "previous"
    done = subprocess.run(
        [*pip, "--target", str(target), f"kaggle-benchmarks=={PREVIOUS}"], capture_output=True
    )
    if done.returncode:
        pytest.skip(
            f"kaggle-benchmarks {PREVIOUS} cannot be installed: {done.stderr.decode().strip()[-200:]}"
        )
    assert_agreement(ask_sdk(tmp_path, SOURCES, str(target)))
