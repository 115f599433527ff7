"""The rule for results that the SDK does not store."""

from __future__ import annotations

import ast

import pytest

from fanbench.tasks.lint import lint

HEAD = "import kaggle_benchmarks as kbench\n"


def results(source: str) -> list[tuple[int, str]]:
    """The line of each finding of this rule, and its message."""
    source = HEAD + source
    found = lint(ast.parse(source), source)[1]
    return [(one.line or 0, one.message) for one in found if one.rule == "result"]


def task(body: str, decorator: str = "@kbench.task()", run: str = "f.run(kbench.llm)") -> str:
    return f"{decorator}\ndef f(llm, n=1):\n    {body}\n{run}\n"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("return llm.prompt('x')", "a str"),
        ("return llm.prompt('x', seed=1).strip().lower()", "a str"),
        ("return kbench.llm.prompt('x')", "a str"),
        ("reply = llm.prompt('x'); return reply", "a str"),
        ("return f'{n}'", "a str"),
        ("return str(n)", "a str"),
        ("return [n]", "a list"),
        ("return sorted(n)", "a list"),
        ("return {n}", "a set"),
        ("yield llm.prompt('x')", "a generator"),
        ("return n, n, n", "a tuple of 3"),
        ("return n, 'x'", "a tuple with a str"),
        ("return 1.0 if n else 'none'", "a str"),
        ("if n: return 1.0\n    return 'none'", "a str"),
        ("return float('nan')", "NaN"),
        ("return math.nan", "NaN"),
        ("return 1.0 if n else np.nan", "NaN"),
        ("score = float(' NaN '); return score", "NaN"),
        ("return -float('Infinity')", "an infinite number"),
        ("return math.inf", "an infinite number"),
        ("return n, math.nan", "a tuple with NaN"),
        ("score = math.nan; return {'score': score}", "a dict with NaN"),
    ],
)
def test_a_result_that_is_not_stored_is_a_warning(body: str, kind: str) -> None:
    """What the SDK cannot write to a run file is a warning that names its type."""
    ((_, message),) = results(task(body))
    assert f"returns {kind}, which the SDK does not store" in message


@pytest.mark.parametrize(
    "body",
    [
        "return",
        "return None",
        "return 'x' in llm.prompt('x')",
        "return {'reply': llm.prompt('x')}",
        "return n, n",
        "return llm.prompt('x', schema=bool)",
        "return llm.prompt('x', bool)",
        "return llm.prompt('x', **options)",
        "return tool.prompt('x')",
        "n = 'x'; n = 1; return n",
        "def g(): return 'x'\n    return g() == 'x'",
        "def g(): yield 'x'\n    return len(list(g()))",
        "return all(x for x in 'x')",
        "str = n.get; return str(n)",
        "a = b; b = a; return a",
        "return float(n)",
        "return float('0.5')",
        "return float('infinite')",
        "return math.pi",
        "return n.nan",
        "math = n; return math.nan",
        "float = n.get; return float('nan')",
        "return {'reply': 'nan', 'seen': [n], **n}",
        "return math.isnan(n)",
    ],
)
def test_other_results_have_no_finding(body: str) -> None:
    """A result that is stored, and one whose type depends on what is not in the function, has no finding."""
    assert results(task(body)) == []


def test_a_rejected_annotation_is_one_finding() -> None:
    """A result whose annotation the SDK rejects has that error, and no warning as well."""
    assert results("@kbench.task()\ndef f(llm) -> str: return 'x'\nf.run(kbench.llm)\n") == []


def test_a_registered_type_may_still_not_be_stored() -> None:
    """A type that the file registers is accepted by the decorator, but its run file is not written."""
    source = "class Text(kbench.results.Result[str]): ...\n" + task("return llm.prompt('x')").replace(
        "n=1)", "n=1) -> str"
    )
    assert [line for line, _ in results(source)] == [5]


def test_a_helper_loses_the_run_that_it_is_part_of() -> None:
    """A helper without a run file of its own may return anything, unless a task runs it as a part of itself."""
    helper = "@kbench.task(store_run=False)"
    assert results(task("return 'x'", helper)) == []
    whole = "@kbench.task()\ndef g(llm): return f.run(llm).result == 'x'\ng.run(kbench.llm)"
    assert len(results(task("return 'x'", helper, whole))) == 1
    called = whole.replace("f.run(llm).result", "f(llm)")
    assert results(task("return 'x'", helper, called)) == []
