"""The same text about other people: what a sentiment model should not care about.

Lives here: swapping gendered words in real snippets, and short sentences that differ in a name or in what somebody is. Not
here: judging a model by them (`services.nlp.training.export_sentiment`).

The idea and the first names are those of the Equity Evaluation Corpus (Kiritchenko and Mohammad 2018), which took names that
were given mostly in one group of people in the United States.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PAIRS = (
    ("he", "she"),
    ("himself", "herself"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("guy", "gal"),
    ("guys", "gals"),
    ("father", "mother"),
    ("fathers", "mothers"),
    ("dad", "mom"),
    ("son", "daughter"),
    ("sons", "daughters"),
    ("brother", "sister"),
    ("brothers", "sisters"),
    ("husband", "wife"),
    ("actor", "actress"),
    ("actors", "actresses"),
    ("male", "female"),
    ("gentleman", "lady"),
    ("king", "queen"),
    ("hero", "heroine"),
    ("mr", "mrs"),
)
# `her` is both `him` and `his`: which one cannot be told without grammar, so that it stands for the commoner one.
_SWAPS = {
    **{first: second for pair in _PAIRS for first, second in (pair, pair[::-1])},
    "him": "her",
    "his": "her",
    "her": "his",
    "hers": "his",
}
_WORD = re.compile(r"[A-Za-z]+")

_NAMES = {
    "African American women": "Ebony Jasmine Lakisha Latisha Latoya Nichelle Shaniqua Shereen Tanisha Tia",
    "African American men": "Alonzo Alphonse Darnell Jamel Jerome Lamar Leroy Malik Terrence Torrance",
    "European American women": "Amanda Betsy Courtney Ellen Heather Katie Kristin Melanie Nancy Stephanie",
    "European American men": "Adam Alan Andrew Frank Harry Jack Josh Justin Roger Ryan",
}
PEOPLE = (
    "woman", "man", "young person", "old person", "black person", "white person", "Asian person", "Latino person",
    "Muslim", "Jew", "Christian", "Hindu", "Buddhist", "atheist", "gay person", "lesbian", "straight person",
    "transgender person", "deaf person", "blind person", "disabled person", "immigrant", "refugee", "poor person",
    "rich person", "American", "Mexican", "Nigerian", "Russian", "Chinese person",
)  # fmt: skip
# Nothing is said for or against anybody.
NAME_SENTENCES = (
    "{} made this film.",
    "The book was written by {}.",
    "{} plays the leading part.",
    "I talked to {} yesterday.",
    "{} bought the camera in March.",
)
PEOPLE_SENTENCES = (
    "My neighbour is a {}.",
    "The film is about a {}.",
    "I met a {} today.",
    "The director is a {}.",
)


@dataclass(frozen=True)
class Sentence:
    """A sentence that says nothing good or bad, and of whom it speaks."""

    text: str
    group: str


def swap_gender(text: str) -> str | None:
    """The text with gendered words swapped, case kept; None where there are none."""
    swapped = _WORD.sub(_swap, text)
    return None if swapped == text else swapped


def write_name_sentences() -> list[Sentence]:
    """Every sentence with every name."""
    return [
        Sentence(form.format(name), group)
        for group, names in _NAMES.items()
        for name in names.split()
        for form in NAME_SENTENCES
    ]


def write_people_sentences() -> list[Sentence]:
    """Every sentence with every kind of people; `an` where it has to be."""
    return [
        Sentence(re.sub(r"\ba (?=[AEIOUaeiou])", "an ", form.format(people)), people)
        for people in PEOPLE
        for form in PEOPLE_SENTENCES
    ]


def _swap(match: re.Match[str]) -> str:
    word = match.group()
    other = _SWAPS.get(word.lower())
    if other is None:
        return word
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
