"""Names as users write them, and as they travel: task slugs, model slugs, task URLs.

All pure functions: the same name must give the same slug in the command line, the checks and the server.
"""

from __future__ import annotations

import re
import unicodedata

from fanbench.errors import UsageError
from fanbench.wire.messages import TaskSlug

__all__ = ["full_task_url", "normalize_model", "slugify", "slugify_task", "split_task"]

SOFT_HYPHEN = "\xad"
WEBSITE = "https://www.kaggle.com"

# Letters that Unicode does not decompose, written in ASCII the way Kaggle's own slugs have them.
_LATIN = {
    "æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ħ": "h", "ı": "i",
    "ŋ": "ng", "ĸ": "k", "ŧ": "t", "ʼ": "'", "’": "'", "‘": "'", "⁄": "/", "×": "x", "€": "eur", "°": "deg",
    "¢": "c/", "£": "ps", "¥": "y=", "©": "(c)", "®": "(r)", "§": "ss", "¶": "p",
}  # fmt: skip
_CYRILLIC = {
    "а": "a", "б": "b", "в": "v", "г": "g", "ґ": "g", "д": "d", "е": "e", "є": "ie", "ж": "zh", "з": "z",
    "и": "i", "і": "i", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s",
    "т": "t", "у": "u", "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "",
    "ы": "y", "ь": "'", "э": "e", "ю": "iu", "я": "ia", "Є": "e",
}  # fmt: skip
_GREEK = {
    "α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "e", "θ": "th", "ι": "i", "κ": "k",
    "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t",
    "υ": "u", "φ": "ph", "χ": "kh", "ψ": "ps", "ω": "o",
    "Ξ": "ks",
}  # fmt: skip
_LETTERS = _LATIN | _CYRILLIC | _GREEK

_ENTITY = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z0-9]+));")


def slugify(name: str) -> str:
    """The slug of one name without an owner: "My Task" and "my_task" become "my-task"; may be empty.

    Agrees with python-slugify, which the vendor uses, for names in Latin, Greek and Russian letters. It
    differs for other scripts, where that library guesses a romanization ("北京" becomes "bei-jing"): we
    refuse those, because two tools that guess apart would speak of two tasks.

    Raises:
        UsageError: the name has letters that have no ASCII form here.
    """
    text = _ascii(name.replace("'", "-"), name)
    text = _without_entities(text).lower().replace("'", "")
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def slugify_task(name: str) -> str:
    """The slug of a task as a user names it: "My Task" is "my-task", "Me/My Task" is "me/my-task".

    Raises:
        UsageError: the task, or the owner before a slash, has no letter or digit.
    """
    parts = [slugify(part) for part in name.split("/", 1)]
    if not all(parts):
        raise UsageError(
            f"{name!r} is not a task name.", hint="Write TASK or OWNER/TASK, each with a letter or a digit."
        )
    return "/".join(parts)


def split_task(slug: str) -> TaskSlug:
    """The wire's form of "task" (whose owner is the caller) or "owner/task"."""
    owner, _, task = slug.rpartition("/")
    return TaskSlug(owner_slug=owner, task_slug=task)


def normalize_model(slug: str) -> str:
    """The form in which models are sent, compared and shown: "google/gemma@default" is "gemma-default"."""
    return slug.rpartition("/")[2].replace("@", "-")


def full_task_url(url: str) -> str:
    """`url` with the website in front where the server left it out."""
    return f"{WEBSITE}{url}" if url.startswith("/") else url


def _ascii(text: str, name: str) -> str:
    if text.isascii():
        return text
    return "".join(_ascii_letter(letter, name) for letter in unicodedata.normalize("NFKD", text))


def _ascii_letter(letter: str, name: str) -> str:
    if letter.isascii():
        return letter
    if (known := _LETTERS.get(letter, _LETTERS.get(letter.lower()))) is not None:
        return known
    if (digit := unicodedata.digit(letter, None)) is not None:
        return str(digit)
    if letter.isalpha():
        raise UsageError(
            f"{name!r} has letters that a slug cannot have: {letter!r}.",
            hint="Give the task a name in Latin letters.",
        )
    return "" if unicodedata.combining(letter) else _symbol(letter)


def _symbol(letter: str) -> str:
    """Punctuation, spaces and the signs of a keyboard part words; a picture in a word does not."""
    on_keyboards = "\xa0" < letter < "\u0100" and letter != SOFT_HYPHEN
    return " " if on_keyboards or unicodedata.category(letter)[0] in "PZ" else ""


def _without_entities(text: str) -> str:
    """HTML entities, as python-slugify reads them: names copied off a web page have them."""
    if "&" not in text:
        return text
    return unicodedata.normalize("NFKD", _ENTITY.sub(_entity, text))


def _entity(match: re.Match[str]) -> str:
    from html.entities import name2codepoint

    decimal, hexadecimal, name = match.groups()
    code = name2codepoint.get(name, -1) if name else int(decimal or hexadecimal, 10 if decimal else 16)
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else match[0]
