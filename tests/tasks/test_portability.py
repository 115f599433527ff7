"""The warnings about code that behaves differently on Kaggle, or asks another model than that of the run."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench.tasks.lint import lint

TASK = """\
import kaggle_benchmarks as kbench
@kbench.task(name="A")
def f(llm):
    llm.prompt("Hello")
f.run(kbench.llm)
"""


def warnings(code: str, *datasets: str, head: str = TASK) -> list[str]:
    """The rules and fixes of all findings in `code`, which comes after a task without any."""
    source = head + code
    return [f"{item.rule}: {item.fix}" for item in lint(ast.parse(source), source, datasets=datasets)[1]]


def rules(code: str, *datasets: str) -> list[str]:
    return [text.partition(":")[0] for text in warnings(code, *datasets)]


# --- __file__ ---


@pytest.mark.parametrize(
    "code",
    ["here = os.path.dirname(__file__)", "def g():\n    return Path(__file__).parent", "print(__file__)"],
)
def test_the_name_of_the_file_is_a_warning(code: str) -> None:
    """Every use of `__file__` that nothing guards is a warning, as a notebook has none."""
    assert rules(code) == ["dunder-file"]


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    here = __file__\nexcept NameError:\n    here = '.'",
        "here = __file__ if '__file__' in globals() else '.'",
        "if '__file__' in dir():\n    print(__file__)",
        "here = globals().get('__file__')",
        "__file__ = 'task.py'\nprint(__file__)",
    ],
)
def test_a_guarded_name_of_the_file_is_fine(code: str) -> None:
    """Code that copes without `__file__` has no warning."""
    assert rules(code) == []


# --- Datasets ---


@pytest.mark.parametrize(
    ("code", "dataset"),
    [
        ("open('/kaggle/input/words/list.txt')", "OWNER/words"),
        ("open('../input/words/list.txt')", "OWNER/words"),
        ("open('/kaggle/input/datasets/me/words/list.txt')", "me/words"),
        ("Path('/kaggle/input/words')", "OWNER/words"),
        ("open(f'/kaggle/input/words/{name}')", "OWNER/words"),
        ("open(f'/kaggle/input/{name}/list.txt')", "OWNER/DATASET"),
        ("open(f'/kaggle/input/datasets/{owner}/{name}')", "OWNER/DATASET"),
        ("Path('/kaggle/input') / name", "OWNER/DATASET"),
        ("os.walk('/kaggle/input/')", "OWNER/DATASET"),
    ],
)
def test_an_input_without_its_dataset_is_a_warning(code: str, dataset: str) -> None:
    """A path below the inputs is a warning that names the dataset to attach, and none once it is attached."""
    assert warnings(code) == [f"dataset: Push it with -d {dataset}."]
    assert warnings(code, dataset.replace("OWNER", "someone")) == []


@pytest.mark.parametrize(
    "code",
    [
        "'''It reads /kaggle/input/words.'''",
        "# /kaggle/input/words",
        "open('/kaggle/working/out.txt')",
        "open('/kaggle/inputs/x')",
        "open('/kaggle/input/competitions/titanic/train.csv')",
    ],
)
def test_other_paths_need_no_dataset(code: str) -> None:
    """Comments, docstrings, other folders and what is no dataset have no warning."""
    assert rules(code) == []


def test_each_dataset_is_named_once() -> None:
    """Several paths of a dataset, in both of its places, give one warning, and the folder itself none beside them."""
    code = "root = '/kaggle/input'\na = '/kaggle/input/words/a'\nb = '/kaggle/input/words/b'\nc = '/kaggle/input/n'"
    assert warnings(code) == ["dataset: Push it with -d OWNER/words.", "dataset: Push it with -d OWNER/n."]
    assert warnings(code, "me/words") == ["dataset: Push it with -d OWNER/n."]
    short, long = "open('/kaggle/input/words/a')", "open('/kaggle/input/datasets/me/words/a')"
    for both in (f"{short}; {long}", f"{long}; {short}"):
        assert warnings(both) == ["dataset: Push it with -d me/words."]
        assert warnings(both, "me/words") == []


SLUGS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda slug: slug not in {"datasets", "competitions", "models", "notebooks"}
)


@given(owner=SLUGS, slug=SLUGS, rest=st.from_regex(r"(/[a-z0-9_.-]{1,9}){0,3}", fullmatch=True))
def test_every_dataset_is_found_in_its_path(owner: str, slug: str, rest: str) -> None:
    """In both layouts, the dataset of any path is the one that the warning names."""
    assert warnings(f"open('/kaggle/input/datasets/{owner}/{slug}{rest}')") == [
        f"dataset: Push it with -d {owner}/{slug}."
    ]
    assert warnings(f"open('/kaggle/input/{slug}{rest}')") == [f"dataset: Push it with -d OWNER/{slug}."]


# --- Models ---


@pytest.mark.parametrize(
    "code",
    [
        "f.run(kbench.llms['google/g'])",
        "from kaggle_benchmarks import llms\nf.run(llms['google/g'])",
        "MODEL = 'google/g'\nf.run(kbench.llms[MODEL])",
        "f.run(kbench.kaggle.load_model('google/g'))",
        "from kaggle_benchmarks.kaggle import load_model as load_model\nf.run(load_model(model_name='google/g'))",
        "from kaggle_benchmarks.kaggle import models\nf.run(models.load_model('google/g', api='genai'))",
        "from kaggle_benchmarks.kaggle import ModelProxy\nf.evaluate(llm=[ModelProxy(model='google/g')])",
        "f.evaluate(llm=[kbench.llm, kbench.llms['google/g']])",
        "f.run(kbench.llms['google/g'], kbench.judge_llm)",
    ],
)
def test_a_fixed_model_is_a_warning(code: str) -> None:
    """A model that the file names is a warning, which has the flag that replaces it on the local server."""
    (warning,) = warnings(code)
    assert warning.startswith("fixed-model: Use kbench.llm ")
    assert "--model-alias 'google/g=MODEL'" in warning


@pytest.mark.parametrize(
    "code",
    [
        "judge = kbench.llms['google/g']",
        "g(judge_llm=kbench.llms['google/g'])",
        "JUDGE = 'google/g'\nf.run(kbench.llms[JUDGE])",
        "f.run(kbench.llm, opponent=kbench.llms['google/g'])",
        "f.run(kbench.llm, kbench.llms['google/g'])",
        "f.run(kbench.llm, players=[kbench.llms['google/g'], load_model('google/h')])",
        "f.evaluate(llm=[kbench.llm], rival=[kbench.llms['google/g']])",
        "rival = kbench.llms['google/g']\nf.run(llm=kbench.llm, other=rival)",
        "from kaggle_benchmarks import llm, llms\nf.run(llm, llms['google/g'])",
        "f.run(kbench.llms[name])",
        "f.run(llms['google/g'])",
        "from keras.models import load_model\nload_model('x/y.h5')",
    ],
)
def test_judges_opponents_and_other_libraries_are_no_fixed_models(code: str) -> None:
    """A judge may be fixed, and so may an opponent of the run's model; functions of other packages do not count."""
    assert rules(code) == []


def test_all_models_in_one_run_are_a_warning() -> None:
    """A task that is run on all available models is a warning, once."""
    code = "f.evaluate(llm=kbench.llms.values())\nfor name, llm in kbench.llms.items():\n    f.run(llm)"
    assert rules(code) == ["all-models"]


@pytest.mark.parametrize(
    ("function", "warned"),
    [
        ("def g(llm): return 1.0", True),
        ("def g(question: str, model): print(question)", True),
        ("def g(llm, seed=0): return seed", True),
        ("def g(llm, other): return len(other.prompt('x'))", False),
        ("def g(llm): return sum(ask(llm) for _ in range(3))", False),
        ("def g(llm):\n    def ask(): return llm.prompt('x')\n    return ask()", False),
        ("def g(llm): return 'y' in kbench.llm.prompt('x')", False),
        ("def g(llm): return eval('llm')", False),
        ("def g(_llm): return 1.0", False),
        ("def ask(): return kbench.llm.prompt('x')\ndef g(llm): return ask()", False),
        ("MODEL = kbench.llm\ndef ask(): return MODEL\ndef g(llm): return 'y' in ask().prompt('x')", False),
        ("class Asker:\n    model = kbench.llm\ndef g(llm): return Asker().ask()", False),
        ("def ask(): return solve()\ndef solve(): return ask()\ndef g(llm): return ask()", True),
        ("def g(*models): return 1.0", False),
        ("def g(llm): ...", False),
        ("def g(llm):\n    '''To do.'''\n    pass", False),
    ],
)
def test_a_model_that_is_never_used_is_a_warning(function: str, warned: bool) -> None:
    """A task that uses its model neither itself nor through what it calls is a warning, if it has a body at all."""
    task = function.replace("def g", "@kbench.task()\ndef g")
    assert rules(f"{task}\ng.run(kbench.llm)") == (["unused-model"] if warned else [])
