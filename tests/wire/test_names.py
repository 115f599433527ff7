"""Names: what a user writes and what travels must be the same thing, always."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanbench import UsageError
from fanbench.wire.messages import TaskSlug
from fanbench.wire.slugs import full_task_url, normalize_model, slugify, slugify_task, split_task

LATIN = [chr(code) for code in range(0xA0, 0x180)]
GREEK = list("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ")
CYRILLIC = list("абвгґдеєжзиіїйклмнопрстуфхцчшщъыьэюяёАБВГҐДЕЄЖЗИІЇЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЁ")
ORDINARY = [chr(code) for code in range(32, 127)] + [
    "’",
    "“",
    "”",
    "–",
    "—",
    "…",
    "½",
    "²",
    "🚀",
    "😀",
    "\n",
    "\t",
]

names = st.text(st.sampled_from(LATIN + GREEK + CYRILLIC + ORDINARY), max_size=30)


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
    """For Latin, Greek and Cyrillic names the slug is the one that the vendor's library makes."""
    vendors = pytest.importorskip("slugify")
    assert slugify(name) == vendors.slugify(name)


@given(st.text(max_size=40))
def test_any_slug_is_clean(name: str) -> None:
    """Any name whatever gives words of a-z and 0-9 joined by single dashes, or a usage error."""
    try:
        slug = slugify(name)
    except UsageError:
        return
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug)


@given(names)
def test_slugs_stay(name: str) -> None:
    """A slug's slug is itself."""
    assert slugify(slugify(name)) == slugify(name)


def test_letters_without_ascii_form_are_refused() -> None:
    """A name that two tools would write in two ways is refused, and the letter is named."""
    with pytest.raises(UsageError, match="北"):
        slugify("北京")


@pytest.mark.parametrize(
    ("name", "slug"), [("My Task", "my-task"), ("Me/My Task", "me/my-task"), ("me/a/b", "me/a-b")]
)
def test_task_slugs_keep_their_owner(name: str, slug: str) -> None:
    """The first slash parts owner and task; each is slugified by itself."""
    assert slugify_task(name) == slug


@pytest.mark.parametrize("name", ["", "///", "/", "/task", "owner/", "🚀", "...", "-/-"])
def test_empty_names_are_refused(name: str) -> None:
    """A task or an owner of which nothing is left is a usage error that says how to write it."""
    with pytest.raises(UsageError) as caught:
        slugify_task(name)
    assert "OWNER/TASK" in (caught.value.hint or "")


def test_task_slugs_on_the_wire() -> None:
    """A slug without an owner leaves the owner out: the server takes the caller."""
    assert split_task("task") == TaskSlug(task_slug="task")
    assert split_task("me/task") == TaskSlug(owner_slug="me", task_slug="task")


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
    """All spellings of a model come down to one."""
    assert normalize_model(model) == normal


@given(st.text(max_size=30))
def test_models_stay(model: str) -> None:
    """The normal form of a normal form is itself: it is safe to normalize twice."""
    assert normalize_model(normalize_model(model)) == normalize_model(model)


def test_urls_become_whole() -> None:
    """A URL without a host is below Kaggle's website; a whole one stays."""
    assert full_task_url("/benchmarks/tasks/me/a/1") == "https://www.kaggle.com/benchmarks/tasks/me/a/1"
    assert full_task_url("http://localhost:7777/x") == "http://localhost:7777/x"
