"""Names: what users write and what is sent always mean the same thing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slugify import slugify as vendors_slugify

from fanbench import UsageError
from fanbench.wire.messages import TaskSlug
from fanbench.wire.slugs import fits, full_task_url, normalize_model, slugify, slugify_task, split_task

# Random text rarely has what names have: digits with commas, quotes, entities, accents, words of other scripts.
PIECES = [
    "1,000",
    "'",
    "’",
    "&amp;",
    "&eacute;",
    "&#228;",
    "&#x41;",
    "ß",
    "объект",
    "日本語",
    "-",
    " ",
    "/",
    "\n",
]
names = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(max_codepoint=0x2FF), max_size=40),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=8).map("".join),
)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My Task", "my-task"),
        ("my_task", "my-task"),
        ("my-task", "my-task"),
        ("  What is 2 + 2?  ", "what-is-2-2"),
        ("émoji 🚀", "emoji"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("it's", "it-s"),
        ("it’s", "its"),
        ("1,000 things", "1000-things"),
        ("R&amp;D", "r-d"),
        ("Caf&eacute;", "cafe"),
        ("X&#38;Y", "x-y"),
        ("Москва", "moskva"),
        ("日本語タスク", "ri-ben-yu-tasuku"),
        ("北京", "bei-jing"),
        ("---", ""),
        ("a/b", "a-b"),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    """These names have these slugs."""
    assert slugify(name) == slug


@given(names)
@example("ß'’&amp;1,2")
@example("объект")
@example("&lt;b&gt;")
def test_slugs_are_the_vendors(name: str) -> None:
    """Every name has the slug that Kaggle's command line gives it."""
    assert slugify(name) == vendors_slugify(name)


@given(names)
def test_slugs_are_stable(name: str) -> None:
    """A slug consists of lower-case words joined by single dashes, and its own slug is itself."""
    slug = slugify(name)
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug)
    assert slugify(slug) == slug


def test_the_vendor_uses_the_same_library() -> None:
    """The installed command line of Kaggle slugifies task names with python-slugify and its defaults."""
    spec = importlib.util.find_spec("kaggle")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("api") / "kaggle_api_extended.py"
    text = source.read_text(encoding="utf-8")
    assert "from slugify import slugify\n" in text
    assert "task_slug = slugify(task)\n" in text


def test_plain_names_need_no_library() -> None:
    """Slugs of ASCII names do not import python-slugify, which would slow down every start."""
    code = "import sys; from fanbench.wire.slugs import slugify; slugify('My Task'); print('slugify' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize(("name", "slug"), [("My Task", "my-task"), ("Me/My Task", "me/my-task")])
def test_task_slugs_keep_their_owner(name: str, slug: str) -> None:
    """The slash separates owner and task; each is slugified separately."""
    assert slugify_task(name) == slug


@pytest.mark.parametrize("name", ["", "///", "/", "/task", "owner/", "🚀", "...", "-/-", "me/a/b"])
def test_what_names_no_task_is_refused(name: str) -> None:
    """A task or owner whose slug is empty, or a second slash, is a usage error with a hint how to write it."""
    with pytest.raises(UsageError) as caught:
        slugify_task(name)
    assert "OWNER/TASK" in (caught.value.hint or "")


def test_task_slugs_on_the_wire() -> None:
    """A slug without an owner is sent without one, which means the caller."""
    assert split_task("task") == TaskSlug(task_slug="task")
    assert split_task("me/task") == TaskSlug(owner_slug="me", task_slug="task")


@pytest.mark.parametrize(
    ("slug", "pattern", "found"),
    [
        ("quiz", "q*", True),
        ("me/quiz", "q*", True),
        ("me/quiz", "m*", False),
        ("me/quiz", "me/*", True),
        ("quiz", "me/*", False),
    ],
)
def test_a_pattern_is_about_the_owner_if_it_has_a_slash(slug: str, pattern: str, found: bool) -> None:
    """Without a slash, the owner of a slug neither helps nor hinders a match."""
    assert fits(slug, pattern) is found


@pytest.mark.parametrize(
    ("model", "normal"),
    [
        ("gemini-2.5-pro", "gemini-2.5-pro"),
        ("google/gemini-2.5-pro", "gemini-2.5-pro"),
        ("anthropic/claude-haiku-4-5@20251001", "claude-haiku-4-5-20251001"),
        ("google/gemini-3.5-flash@default", "gemini-3.5-flash-default"),
        ("a/b/c", "c"),
    ],
)
def test_models_have_one_form(model: str, normal: str) -> None:
    """All spellings of a model have one normal form."""
    assert normalize_model(model) == normal


@given(st.text(max_size=30))
def test_model_forms_are_stable(model: str) -> None:
    """Normalizing twice gives the same as normalizing once."""
    assert normalize_model(normalize_model(model)) == normalize_model(model)


def test_urls_are_completed() -> None:
    """A path is completed with Kaggle's website; a complete URL is unchanged."""
    assert full_task_url("/benchmarks/tasks/me/a/1") == "https://www.kaggle.com/benchmarks/tasks/me/a/1"
    assert full_task_url("http://localhost:7777/x") == "http://localhost:7777/x"
