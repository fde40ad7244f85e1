"""Translated messages of a program: gettext's .po files, one folder a locale.

Lives here: reading the format (GNU gettext manual, "The Format of PO Files"), what of a message is plain text, which
language a locale is, splits by message. Not here: n-grams (`bags.py`), other texts to judge by (`declarations.py`).
"""

from __future__ import annotations

import ast
import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.training.errors import DataError

FOLDER = Path("django/django")
SOURCE_LANGUAGE = "en"
# Locales whose written form is another's: by BCP-47 tags, without what only a region changes. Chinese and Serbian are told
# apart by their scripts.
LANGUAGES = {"zh_Hans": "zh-Hans", "zh_Hant": "zh-Hant", "sr_Latn": "sr-Latn"}
LEAST_LETTERS = 4

_ADVICE = "run `sensorium data pull` again"
_FORMAT = re.compile(
    r"%\([^)]*\)[#0 +-]*[\d.*]*[a-zA-Z]"  # %(name)s
    r"|%[#0 +-]*[\d.*]*[diouxXeEfFgGcrsa]"  # %s
    r"|\{[^{}]*\}"  # {name}
    r"|</?[a-zA-Z][^<>]*>"  # markup
    r"|\b(?:https?://|www\.)\S+|\S+@\S+\.\S+"  # addresses
)
_SPACE = re.compile(r"\s+")
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)\s+"')


@dataclass(frozen=True)
class Message:
    """One plain text in one language, and the key that all its translations share."""

    text: str
    language: str  # BCP-47
    key: str
    made_up: bool = False  # nobody wrote it: it may be learned from, never judged by


@dataclass
class _Entry:
    fields: dict[str, list[str]] = field(default_factory=dict)
    fuzzy: bool = False


def read_messages(folder: Path) -> tuple[Message, ...]:
    """Read every `locale/<locale>/LC_MESSAGES/*.po` below a folder; a text that a language has twice comes once.

    The source language's texts are the keys themselves. What is not translated, or only doubtfully, is left out.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    files = sorted(folder.glob("**/locale/*/LC_MESSAGES/*.po"))
    if not files:
        raise DataError(
            folder, expected="translations (locale/*/LC_MESSAGES/*.po)", got="none", advice=_ADVICE
        )
    found: dict[tuple[str, str], Message] = {}
    for path in files:
        language = name_language(path.parent.parent.name)
        for key, translation in read_catalogue(path):
            if (source := clean(key)) is not None:
                found.setdefault((SOURCE_LANGUAGE, source), Message(source, SOURCE_LANGUAGE, key))
            text = clean(translation)
            if text is not None and text != source and language != SOURCE_LANGUAGE:
                found.setdefault((language, text), Message(text, language, key))
    return tuple(found[place] for place in sorted(found))


def name_language(locale: str) -> str:
    """The BCP-47 tag of a locale's written language: `pt_BR` is `pt`."""
    return LANGUAGES.get(locale, locale.split("_")[0])


def read_catalogue(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (key, translation) of every message of a file, one pair for each plural form.

    Raises:
        DataError: it is no UTF-8, or a line is none of the format's.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            path, expected="a file of messages in UTF-8", got=str(error), advice=_ADVICE
        ) from error
    for entry in _read_entries(path, lines):
        key = "".join(entry.fields.get("msgid", ()))
        if not key or entry.fuzzy:
            continue
        for name, parts in entry.fields.items():
            if name.startswith("msgstr") and (text := "".join(parts)):
                yield key, text


def _read_entries(path: Path, lines: Sequence[str]) -> Iterator[_Entry]:
    entry, name = _Entry(), ""
    for number, line in enumerate([*lines, ""], start=1):
        line = line.strip()
        if line.startswith("#"):
            # A comment after a translation belongs to the next message.
            if any(one.startswith("msgstr") for one in entry.fields):
                yield entry
                entry, name = _Entry(), ""
            entry.fuzzy |= line.startswith("#,") and "fuzzy" in line
            continue
        if not line:
            if entry.fields:
                yield entry
            entry, name = _Entry(), ""
            continue
        if found := _KEYWORD.match(line):
            name = found[1]
            # Files without blank lines between messages are allowed.
            if name in ("msgctxt", "msgid") and any(one.startswith("msgstr") for one in entry.fields):
                yield entry
                entry = _Entry()
            line = line[found.end() - 1 :]
        if not name or len(line) < 2 or line[0] != '"' or line[-1] != '"':
            raise DataError(path, expected=f"a message in line {number}", got=repr(line[:60]), advice=_ADVICE)
        try:
            entry.fields.setdefault(name, []).append(ast.literal_eval(line))
        except (ValueError, SyntaxError) as error:
            raise DataError(
                path, expected=f"a quoted text in line {number}", got=repr(line[:60]), advice=_ADVICE
            ) from error


def clean(text: str) -> str | None:
    """A message as it is read: without places for values, markup and addresses; None if that leaves too few letters."""
    plain = _SPACE.sub(" ", _FORMAT.sub(" ", html.unescape(text)).replace("&", "").replace("_", " ")).strip()
    return plain if sum(map(str.isalpha, plain)) >= LEAST_LETTERS else None


def is_held_out(key: str, split: int, share: float = 0.2) -> bool:
    """Whether a message is held out, with all its translations and forms: by a hash of the split and the key."""
    drawn = hashlib.sha256(f"{split}/{key}".encode()).digest()[:6]
    return int.from_bytes(drawn, "big") < share * 2**48
