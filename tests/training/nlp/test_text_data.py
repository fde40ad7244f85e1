"""Readers of the texts that classifiers over n-grams learn from: what is published, and what is broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from services.nlp.training.data import declarations, everyday, messages
from services.nlp.training.data.documents import Documents, read_split, read_table, set_aside
from services.nlp.training.data.mail import FOLDER as MAILS
from services.nlp.training.data.mail import GROUPS, read_mail, read_mails, split_mails
from shared.training.errors import DataError

HEADING = "Category\tText\nd\tstring\nclass\t\n"


@pytest.mark.parametrize(
    ("dataset", "stem", "sizes", "labels"),
    [("newsgroups", "20newsgroups", (11293, 7528), 20), ("reuters", "reuters-r8", (5485, 2189), 8)],
)
def test_official_splits_are_read_whole(
    datasets: Path, dataset: str, stem: str, sizes: tuple[int, int], labels: int
) -> None:
    train, test = read_split(datasets, dataset, stem)
    assert (len(train), len(test)) == sizes
    assert len(train.names) == labels
    assert train.names == test.names
    assert set(train.labels.tolist()) == set(range(labels))
    assert train.limit(100).sha256 != train.sha256
    assert len(set(train.limit(100).labels.tolist())) == labels


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the heading"),
        (b"text,label\n", "the heading"),
        (HEADING.encode() + b"earn\n", "line 4"),
        (HEADING.encode() + b"earn\tup\nacq\t\n", "line 5"),
        (HEADING.encode() + b"earn\tup\nearn\tdown\n", "at least two labels"),
        (HEADING.encode(), "at least two labels"),
        (HEADING.encode() + b"earn\t\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_broken_table_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "table.tab"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sensorium data pull"):
        read_table(tmp_path / "none.tab")


def test_what_is_set_aside_is_the_last_of_each_label() -> None:
    labels = np.array([0, 1, 0, 0, 1, 0, 2])
    kept, aside = set_aside(labels, 0.5)
    assert aside.tolist() == [3, 4, 5]
    assert sorted([*kept, *aside]) == list(range(7))


def test_published_mails_are_read_and_copies_stay_together(datasets: Path) -> None:
    mails = read_mails(datasets, 300)
    assert len(mails) > 290
    assert set(mails.groups) == set(GROUPS)
    train, test = split_mails(mails, 0)
    assert not set(mails.copies[train]) & set(mails.copies[test])
    assert 0.1 < len(test) / len(mails) < 0.3
    assert not any("Return-Path: " in text[:100] for text in mails.documents.texts)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nHallo\nWelt", "Grüße Hallo Welt"),
        (
            "Subject: a\nContent-Transfer-Encoding: base64\n\naGlkZGVu",
            "a hidden",
        ),
        (
            "Subject: x\nContent-Type: text/html\n\n<style>p{}</style><p>Buy&nbsp;now</p><script>1</script>",
            "x Buy now",
        ),
        (
            'Subject: two\nContent-Type: multipart/alternative; boundary="b"\n\n--b\nContent-Type: text/plain\n\n'
            "plain\n--b\nContent-Type: text/html\n\n<p>shown</p>\n--b--\n",
            "two plain",
        ),
        ("Subject: odd\nContent-Type: text/plain; charset=none-such\n\nstill read", "odd still read"),
        ("Subject: n\n\nbuy\0now", "n buy now"),
        ("X-Only: headers\n\n", ""),
    ],
)
def test_the_text_of_a_mail_is_what_is_shown(source: str, text: str) -> None:
    assert read_mail(source) == text


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"text": 1'])
def test_a_broken_mail_is_told(tmp_path: Path, content: bytes) -> None:
    for group in GROUPS:
        (tmp_path / MAILS / group).mkdir(parents=True)
        (tmp_path / MAILS / group / "1.json").write_text(json.dumps({"text": f"Subject: {group}\n\nbody"}))
    broken = tmp_path / MAILS / "spam-2" / "2.json"
    broken.write_bytes(content)
    with pytest.raises(DataError, match="JSON with the field text") as caught:
        read_mails(tmp_path)
    assert caught.value.path == broken


def test_an_empty_folder_of_mails_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected e-mails"):
        read_mails(tmp_path)


PO = """\
msgid ""
msgstr "Language: de\\n"

#, python-format
msgid "%(name)s was saved <b>twice</b>."
msgstr ""
"%(name)s wurde "
"<b>zweimal</b> gespeichert."

#, fuzzy
msgid "Doubtful text"
msgstr "Zweifelhafter Text"

msgctxt "shop"
msgid "One item"
msgid_plural "%d items"
msgstr[0] "Ein Artikel"
msgstr[1] "%d Artikel"

msgid "Untranslated text"
msgstr ""

#~ msgid "Gone text"
#~ msgstr "Entfallener Text"
"""


def write_po(folder: Path, locale: str, content: str) -> Path:
    path = folder / "app" / "locale" / locale / "LC_MESSAGES" / "django.po"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_messages_are_read_as_gettext_writes_them(tmp_path: Path) -> None:
    write_po(tmp_path, "de_AT", PO)
    found = messages.read_messages(tmp_path)
    assert {(one.language, one.text) for one in found} == {
        ("de", "wurde zweimal gespeichert."),
        ("de", "Ein Artikel"),
        ("de", "Artikel"),
        ("en", "was saved twice ."),
        ("en", "One item"),
    }
    forms = {one.key for one in found if "Artikel" in one.text}
    assert forms == {"One item"}


@pytest.mark.parametrize("line", ['msgid "open', "nonsense", 'msgstr "\\x"'])
def test_a_broken_file_of_messages_is_told(tmp_path: Path, line: str) -> None:
    path = write_po(tmp_path, "de", f'msgid "Text"\n{line}\n')
    with pytest.raises(DataError, match="line 2") as caught:
        messages.read_messages(tmp_path)
    assert caught.value.path == path


def test_a_folder_without_messages_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected translations"):
        messages.read_messages(tmp_path)


def test_published_messages_hold_many_languages(datasets: Path) -> None:
    found = messages.read_messages(datasets / messages.FOLDER / "contrib" / "admin")
    languages = {one.language for one in found}
    assert len(languages) > 70
    assert {"de", "zh-Hans", "sr-Latn", "pt", "en"} <= languages
    assert not any("%(" in one.text or "<" in one.text for one in found[:2000])
    # A message is on one side in all languages.
    sides = {(one.key, messages.is_held_out(one.key, 0)) for one in found}
    assert len(sides) == len({one.key for one in found})


def test_declarations_are_read_by_language(datasets: Path) -> None:
    found = declarations.read_declarations(datasets)
    languages = {declarations.name_language(one.tag) for one in found}
    assert len(languages) > 300
    english = [one.text for one in found if one.tag == "en"]
    assert english[0].startswith("Whereas recognition of the inherent dignity")
    assert declarations.name_language("az-Cyrl") == ""
    assert declarations.name_language("pt-BR") == "pt"
    assert declarations.name_language("sr-Latn") == "sr-Latn"
    assert declarations.name_language("el-polyton") == ""


def test_a_missing_index_of_declarations_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="index of declarations"):
        declarations.read_declarations(tmp_path)


def test_words_are_as_frequent_as_they_were_counted(datasets: Path) -> None:
    found = everyday.read_words(datasets)
    assert len(found) > 40
    assert "sh" not in found
    english = found["en"]
    assert english.words[0] == "the"
    assert abs(english.shares.sum() - 1) < 1e-9
    # One word in twenty of English is "the".
    assert 0.03 < english.shares[0] < 0.08
    assert not any(word.isdigit() for word in english.words)


def test_counts_of_words_count_alike_when_mixed() -> None:
    one, other = everyday.count_words(["a b"]), everyday.count_words(["b c c c"] * 9)
    mixed = everyday.mix_words([one, other])
    found = dict(zip(mixed.words, mixed.shares.tolist(), strict=True))
    assert found == pytest.approx({"a": 0.25, "b": 0.375, "c": 0.375})
    assert everyday.mix_words([one]).words == one.words


def test_phrases_are_made_up_of_frequent_words() -> None:
    counted = everyday.count_words(["a b a", "a"])
    phrases = everyday.make_phrases(counted, "xx", 2000, np.random.default_rng(0))
    words = [word for phrase in phrases for word in phrase.split(" ")]
    assert len(phrases) == 2000
    assert {len(phrase.split(" ")) for phrase in phrases} == set(range(1, everyday.LONGEST + 1))
    assert abs(words.count("a") / len(words) - 0.75) < 0.02
    assert phrases == everyday.make_phrases(counted, "xx", 2000, np.random.default_rng(0))
    assert not any(" " in one for one in everyday.make_phrases(counted, "ja", 50, np.random.default_rng(0)))


def test_sentences_and_phrases_have_a_language(datasets: Path) -> None:
    sentences = everyday.read_sentences(datasets)
    assert len({language for language, _ in sentences}) > 60
    assert ("fr", "Londres est une grande ville du Royaume-Uni") in sentences
    assert "zh-Hans" in {language for language, _ in sentences}
    phrases = everyday.read_phrases()
    assert ("fr", "Où se trouve la gare ?") in phrases
    assert all(language and phrase and "\t" not in phrase for language, phrase in phrases)
    assert len(set(phrases)) == len(phrases)


def test_what_no_counts_are_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="counts of words"):
        everyday.read_words(tmp_path)
    with pytest.raises(DataError, match="examples"):
        everyday.read_sentences(tmp_path)
    folder = tmp_path / everyday.WORDS_FOLDER
    folder.mkdir(parents=True)
    for content in (
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(b"\xc1"),
        gzip.compress(b"\x90"),
        gzip.compress(b"\x93\x01\x02\x03"),
    ):
        (folder / "small_xx.msgpack.gz").write_bytes(content)
        with pytest.raises(DataError, match="small_xx"):
            everyday.read_words(tmp_path)
    examples = tmp_path / everyday.SENTENCES_FOLDER / "lang/xx/examples.py"
    examples.parent.mkdir(parents=True)
    examples.write_text("sentences = [1 +")
    with pytest.raises(DataError, match="a list of sentences"):
        everyday.read_sentences(tmp_path)


def test_documents_know_their_digest() -> None:
    one = Documents(("a", "b"), np.array([0, 1]), ("x", "y"))
    assert one.sha256 == Documents(("a", "b"), np.array([0, 1]), ("x", "y")).sha256
    assert one.sha256 != one.take([1, 0]).sha256
