"""What a trained model is compared with, on the same training and held-out items.

Lives here: majority, TF-IDF with a linear model, nearest neighbour, linear models of vectors; all of scikit-learn, their
settings said in the name. Not here: the comparison (`paired.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Analyzer = Literal["word", "char", "char_wb"]


@dataclass(frozen=True)
class Baseline:
    """Answers of a baseline on the held-out items, int64 [items]."""

    name: str
    answers: NDArray[np.int64]

    def correct(self, truth: NDArray[Any]) -> NDArray[np.bool_]:
        """By item, for paired tests."""
        return np.asarray(self.answers == np.asarray(truth), bool)


def majority(train_truth: NDArray[Any], items: int) -> Baseline:
    """The commonest label of the training items, for everything."""
    values, counts = np.unique(train_truth, return_counts=True)
    return Baseline("majority", np.full(items, values[counts.argmax()], np.int64))


def tfidf_linear(
    train: Sequence[str],
    train_truth: NDArray[Any],
    held_out: Sequence[str],
    *,
    kind: Literal["svm", "logistic"] = "svm",
    analyzer: Analyzer = "word",
    grams: tuple[int, int] = (1, 2),
    strength: float = 1.0,
    min_items: int = 1,
) -> Baseline:
    """TF-IDF (sublinear counts, unit length) and a linear model; `strength` is its C.

    kind: `svm` = LinearSVC, `logistic` = LogisticRegression.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(
        sublinear_tf=True, analyzer=analyzer, ngram_range=grams, min_df=min_items, dtype=np.float32
    )
    model = (
        LinearSVC(C=strength, random_state=0)
        if kind == "svm"
        else LogisticRegression(C=strength, max_iter=1000)
    )
    model.fit(vectorizer.fit_transform(train), train_truth)
    answers = model.predict(vectorizer.transform(held_out))
    named = {"svm": "linear SVM", "logistic": "logistic regression"}[kind]
    return Baseline(f"TF-IDF ({analyzer} {grams[0]} to {grams[1]}) + {named}", np.asarray(answers, np.int64))


def nearest_neighbour(
    train: NDArray[Any],
    train_truth: NDArray[Any],
    held_out: NDArray[Any],
    *,
    neighbours: int = 1,
    metric: Literal["cosine", "euclidean"] = "euclidean",
) -> Baseline:
    """The label of the nearest training items; vectors float [items, …], flattened."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(neighbours, metric=metric)
    model.fit(_flatten(train), train_truth)
    answers = model.predict(_flatten(held_out))
    named = "nearest neighbour" if neighbours == 1 else f"{neighbours} nearest neighbours"
    return Baseline(f"{named} ({metric})", np.asarray(answers, np.int64))


def nearest_text(train: Sequence[str], train_truth: NDArray[Any], held_out: Sequence[str]) -> Baseline:
    """The label of the training text whose TF-IDF vector of words is nearest by cosine."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import KNeighborsClassifier

    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    model.fit(vectorizer.fit_transform(train), train_truth)
    answers = model.predict(vectorizer.transform(held_out))
    return Baseline("nearest neighbour (TF-IDF, cosine)", np.asarray(answers, np.int64))


def linear(
    train: NDArray[Any], train_truth: NDArray[Any], held_out: NDArray[Any], *, strength: float = 1.0
) -> Baseline:
    """Logistic regression on standardised vectors float [items, …], flattened."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    model.fit(_flatten(train), train_truth)
    return Baseline("logistic regression", np.asarray(model.predict(_flatten(held_out)), np.int64))


def _flatten(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors, np.float32).reshape(len(vectors), -1)
