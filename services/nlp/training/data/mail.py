"""SpamAssassin's public e-mails, ham and spam, as the npm package keeps them: one JSON file each.

Lives here: reading them, what of an e-mail is its text, splits that keep copies on one side. Not here: n-grams (`bags.py`).

Only subject and body count. The other headers say through which machines and lists the collectors got an e-mail, which tells
their spam from their ham and nobody else's.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import re
from dataclasses import dataclass
from email.header import decode_header
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.nlp.training.data.documents import Documents, make_documents
from shared.training.errors import DataError

FOLDER = Path("spam-assassin/package/data")
# The package's folders; `1` and `2` were collected at different times.
GROUPS = {
    "easy-ham-1": "ham",
    "easy-ham-2": "ham",
    "hard-ham-1": "ham",
    "spam-1": "spam",
    "spam-2": "spam",
}
# Some spam holds U+0000, which parts words as a space does, and no caller can send.
_SPACE = re.compile(r"[\s\0]+")
_ALIKE = re.compile(r"[^a-z]+")
# What mailing lists append and quote differs between copies, how they begin does not.
_ALIKE_CHARACTERS = 300
_UNREAD = frozenset({"script", "style", "head", "title"})


@dataclass(frozen=True)
class Mails:
    """E-mails, the folder of each, and a key that copies of one e-mail share."""

    documents: Documents
    groups: NDArray[np.str_]
    copies: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, indices: NDArray[np.int64]) -> Mails:
        """Some of them, in the order of `indices`."""
        return Mails(self.documents.take(indices), self.groups[indices], self.copies[indices])


def read_mails(data: Path, limit: int | None = None) -> Mails:
    """Read all of them, in the order of groups and files; `limit` = at most so many, spread over all.

    Raises:
        DataError: a folder or file is missing, empty or not as published.
    """
    advice = "run `sensorium data pull spam-assassin` again"
    files = []
    for group in GROUPS:
        found = sorted((data / FOLDER / group).glob("*.json"))
        if not found:
            raise DataError(data / FOLDER / group, expected="e-mails", got="no .json file", advice=advice)
        files += [(group, path) for path in found]
    if limit is not None and limit < len(files):
        files = [files[place] for place in np.linspace(0, len(files) - 1, limit).round().astype(int)]
    rows, groups, copies = [], [], []
    for group, path in files:
        try:
            source = json.loads(path.read_bytes())["text"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise DataError(path, expected="JSON with the field text", got=got, advice=advice) from error
        text = read_mail(source)
        if text:
            rows.append((GROUPS[group], text))
            groups.append(group)
            copies.append(_key(text))
    return Mails(make_documents(rows, data / FOLDER), np.array(groups), np.array(copies))


def read_mail(source: str) -> str:
    """Subject and body of an e-mail as it was sent (RFC 5322 and MIME): plain text, or what its HTML shows; one line."""
    message = email.message_from_bytes(source.encode("utf-8", "replace"), policy=email.policy.compat32)
    parts = [part for part in message.walk() if not part.is_multipart()]
    plain = [_decode(part) for part in parts if part.get_content_type() == "text/plain"]
    shown = [_strip_html(_decode(part)) for part in parts if part.get_content_type() == "text/html"]
    body = "\n".join(plain) if "".join(plain).strip() else "\n".join(shown)
    return _SPACE.sub(" ", f"{_read_subject(message)}\n{body}").strip()


def split_mails(mails: Mails, seed: int, share: float = 0.2) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to learn from and to judge by; copies of one e-mail come to one side, by a hash of the seed and their key."""
    drawn = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:6], "big") / 2**48
            for key in mails.copies
        ]
    )
    return np.flatnonzero(drawn >= share), np.flatnonzero(drawn < share)


def _key(text: str) -> str:
    letters = _ALIKE.sub("", text.lower().removeprefix("re:"))[:_ALIKE_CHARACTERS]
    return hashlib.sha256(letters.encode()).hexdigest()[:16]


def _read_subject(message: Message) -> str:
    found = []
    for part, charset in decode_header(str(message.get("Subject", ""))):
        found.append(part if isinstance(part, str) else _to_text(part, charset))
    return "".join(found)


def _decode(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return _to_text(payload, part.get_content_charset()) if isinstance(payload, bytes) else ""


def _to_text(content: bytes, charset: str | None) -> str:
    """By the charset that is said, UTF-8, or else what never fails."""
    for name in (charset, "utf-8"):
        try:
            return content.decode(name or "utf-8")
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return content.decode("latin-1")


class _Shown(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _UNREAD
        self.found.append(" ")

    def handle_endtag(self, tag: str) -> None:
        # Spam leaves tags open and closes others that never were.
        self._hidden = max(0, self._hidden - (tag in _UNREAD))
        self.found.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def _strip_html(html: str) -> str:
    parser = _Shown()
    parser.feed(html)
    parser.close()
    return "".join(parser.found)
