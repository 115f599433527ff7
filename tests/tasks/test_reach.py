"""Tasks that a `.run` or `.evaluate` could reach."""

from __future__ import annotations

import ast

import pytest

from fanbench.tasks.reach import Origins
from fanbench.tasks.source import all_nodes

REACHING = {
    "run": "a.run(llm)",
    "evaluate": "a.evaluate(llm=[llm])",
    "as a value": "r = a.run\nr(llm)",
    "mapped": "list(map(a.run, llms))",
    "loop over a list": "for t in [b, a]:\n    t.run(llm)",
    "loop over a name": "tasks = (a, b)\nfor t in tasks:\n    t.run(llm)",
    "loop over items": "tasks = {'x': a}\nfor name, t in tasks.items():\n    t.run(llm)",
    "enumerate": "for i, t in enumerate([a]):\n    t.run(llm)",
    "comprehension": "[t.evaluate(llm=[llm]) for t in [a]]",
    "alias": "x = a\ny = x\ny.run(llm)",
    "annotated alias": "x: Task = a\nx.run(llm)",
    "walrus": "(x := a).run(llm)\n",
    "tuple": "x, y = a, b\nx.run(llm)",
    "appended": "tasks = []\ntasks.append(a)\nfor t in tasks:\n    t.run(llm)",
    "added": "tasks = []\ntasks += [a]\ntasks[0].run(llm)",
    "stored by key": "tasks = {}\ntasks['x'] = a\ntasks['x'].run(llm)",
    "argument": "def go(t, n=1):\n    t.run(llm)\ngo(a)",
    "keyword argument": "def go(*, t):\n    t.run(llm)\ngo(t=a)",
    "many arguments": "def go(*tasks):\n    for t in tasks:\n        t.run(llm)\ngo(b, a)",
    "default": "def go(t=a):\n    t.run(llm)\ngo()",
    "handed over": "def go(t):\n    t.run(llm)\nlist(map(go, [a]))",
    "lambda": "list(map(lambda t: t.run(llm), [a]))",
    "named lambda": "go = lambda t: t.run(llm)\ngo(a)",
    "returned": "def get():\n    return a\nget().run(llm)",
    "yielded": "def get():\n    yield a\nfor t in get():\n    t.run(llm)",
    "returned through an alias": "def get():\n    return a\nfetch = get\nx = fetch()\nx.run(llm)",
    "returned by a lambda": "get = lambda: a\nget().run(llm)",
    "returned in a map": "def get(n):\n    return a\nfor t in map(get, [1]):\n    t.run(llm)",
    "property": "class R:\n    @property\n    def t(self):\n        return a\nR().t.run(llm)",
    "decorated": "ALL = []\ndef keep(t):\n    ALL.append(t)\n    return t\n"
    "@keep\n@task()\ndef a(llm): ...\nfor t in ALL:\n    t.run(llm)",
    "object": "class R:\n    def __init__(self, t):\n        self.t = t\n"
    "    def go(self):\n        self.t.run(llm)\nR(a).go()",
    "dataclass": "@dataclass\nclass R:\n    t: Task\nR(a).t.run(llm)",
    "class": "C.a.run(llm)",
    "partial": "a.partial({'x': 1}).run(llm)",
    "bound": "t = a.bind_dataframe(df)\nt.run(llm)",
    "conditional": "(a if x else b).run(llm)",
    "with": "with keep(a) as t:\n    t.run(llm)",
    "match": "match a:\n    case t:\n        t.run(llm)",
    "getattr": "getattr(a, 'run')(llm)",
    "getattr of a module": "getattr(me, 'a').run(llm)",
    "getattr by a variable": "getattr(me, name).run(llm)",
    "globals": "globals()['a'].run(llm)",
    "registry": "kbench.client.registry['A'].run(llm)",
    "client": "kbench.client.run_task(a, {}, None)",
    "sub-task": "def main(llm):\n    return a.run(llm).result",
    "guarded": "if __name__ == '__main__':\n    a.run(llm)",
    "awaited": "async def main():\n    async for t in [a]:\n        t.run(llm)",
}

NOT_REACHING = {
    "nothing": "x = 1",
    "another": "b.run(llm)",
    "a list that is never run": "tasks = [a]",
    "a call": "a(llm)",
    "another module's run": "subprocess.run(['a'])",
    "the loop of another": "print([a])\nfor t in [b]:\n    t.run(llm)",
    "a text": "'a.run(llm)'",
    "a comment": "# a.run(llm)",
    "the decorator's arguments": "@kbench.task(name='a')\ndef a(llm): ...\nb.run(kbench.llm)",
    "called in another": "def b(llm):\n    return a(llm)\nb.run(llm)",
    "an argument of a run": "b.run(kbench.llm, a)",
    "a function that runs something else": "def go(t):\n    t.run(llm)\ngo(b)\nother(a)",
}


@pytest.mark.parametrize("source", REACHING.values(), ids=REACHING.keys())
def test_a_run_reaches_the_task(source: str) -> None:
    """Every usual way to run the task `a` is recognized."""
    assert "a" in Origins(all_nodes(ast.parse(source))).reach()


@pytest.mark.parametrize("source", NOT_REACHING.values(), ids=NOT_REACHING.keys())
def test_no_run_reaches_the_task(source: str) -> None:
    """The task `a` is not reached in a file that never runs it."""
    assert "a" not in Origins(all_nodes(ast.parse(source))).reach()


@pytest.mark.parametrize(
    ("code", "on_load"), [("a.run(llm)", True), ("for t in [a]:\n    t.run(llm)", True), ("", False)]
)
def test_runs_within_excepted_nodes_do_not_count(code: str, on_load: bool) -> None:
    """What only runs within the excepted nodes is not reached; what also runs elsewhere is."""
    tree = ast.parse(f"def whole(llm):\n    a.run(llm)\n{code}\n")
    origins = Origins(all_nodes(tree))
    assert "a" in origins.reach()
    assert ("a" in origins.reach(except_in=[tree.body[0]])) is on_load
