"""Promoting: a candidate passes every gate and is copied as the next version, signed and recorded, or it is refused.

Not here: the gates' arithmetic (`shared.gates`), the command line (`promote`), replicas taking the version up (they look).
"""

import json
from dataclasses import dataclass, field
from uuid import uuid4

from cli.failure import CommandError
from cli.pull.lock import exclusive
from cli.registry.comparison import Answers, Comparison, gather_bounds
from cli.registry.history import BEGUN, PROMOTED, REFUSED, History
from cli.registry.items import explain_missing, read_items
from cli.registry.key import own_signer
from cli.registry.progress import Watcher
from cli.registry.trial import NotServedError, ask, on_trial
from cli.registry.versions import Place, find_entry, find_serving, next_version
from shared.gates import MARGIN, Finding, Paired, Verdict, admits, judge
from shared.inference.artifact import Artifact, ArtifactError, copy_artifact, digest_manifest, verify
from shared.inference.heldout import HeldOutSet
from shared.inference.manifest import SIGNATURE
from shared.inference.signature import SignatureError, SignatureSettings, check_signature

# What is recorded as the action: a candidate took over, or an older version was brought back.
PROMOTION, ROLLED_BACK = "promote", "rollback"
# How far a measured metric may be off the one that artifact.json states of the same items: labels that tie.
_CLAIM = 0.005


@dataclass
class Trial:
    """What was found out about a candidate."""

    candidate: Artifact
    serving: Artifact | None
    margin: float = MARGIN
    findings: list[Finding] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def is_repetition(self) -> bool:
        """Whether its files are, byte for byte, those of the version that serves; what is said of them may differ."""
        return self.serving is not None and self.candidate.manifest.files == self.serving.manifest.files

    def describe(self) -> dict[str, object]:
        """The gates and figures, for the record and for JSON."""
        paired = None if self.comparison is None else self.comparison.paired
        return {
            "candidate": self.candidate.digest,
            "serving": "" if self.serving is None else self.serving.version,
            "gates": [
                {"gate": each.gate, "verdict": each.verdict.value, "reason": each.reason}
                for each in self.findings
            ],
            "metrics": {name: round(value, 6) for name, value in self.metrics.items()},
            "held_out": None if self.comparison is None else self.comparison.held_out.sha256,
            "paired": None if paired is None else describe_paired(paired),
            "margin": self.margin,
        }


def try_candidate(
    place: Place,
    candidate: Artifact,
    trust: SignatureSettings,
    watcher: Watcher,
    *,
    margin: float = MARGIN,
    rollback: bool = False,
) -> Trial:
    """Put a candidate through every gate. What is not whole, or not to be trusted, is not run.

    `rollback`: it was let in before, and is wanted back for what its successor did: only that it is whole, trusted and
    answers as it did is asked.

    Raises:
        CommandError: the gates cannot be asked: a replica does not start, the held-out items or the catalogue are damaged.
    """
    trial = Trial(candidate, find_serving(place), margin)
    called = f"{place.public_name}, {place.call(candidate, trial.serving)}"
    watcher.note(f"checking the files of {called}")
    trial.findings += [_judge_files(candidate), _judge_signature(place, candidate, trust)]
    if not admits(trial.findings):
        return trial
    held_out = None if rollback else read_items(place)
    watcher.note(f"loading {called} into a replica of its own")
    try:
        answers = _answer(candidate, called, held_out, watcher)
    except NotServedError as error:
        trial.findings.append(Finding("golden answers", Verdict.FAILED, str(error)))
        return trial
    trial.findings.append(Finding("golden answers", Verdict.PASSED, "a replica serves it"))
    if rollback:
        return trial
    trial.metrics = {name: metric.value for name, metric in candidate.manifest.quality.metrics.items()}
    stated = candidate.manifest.quality.held_out
    if held_out is not None and answers is not None:
        measured = answers.measure(held_out)
        if stated is not None and stated.sha256 == held_out.sha256:
            trial.findings += _judge_claims(trial.metrics, measured)
        # What was measured here counts, whatever a candidate says of other items.
        trial.metrics |= measured
        if trial.serving is not None and not trial.is_repetition:
            trial.comparison = _compare(place, trial.serving, trial.serving, held_out, answers, watcher)
    entry = find_entry(place)
    try:
        bounds = gather_bounds(candidate, trial.serving, None if entry is None else entry.fields)
    except ValueError as error:
        raise CommandError(f"the catalogue's entry of {place.public_name}: {error}") from error
    paired = None if trial.comparison is None else trial.comparison.paired
    trial.findings += judge(trial.metrics, bounds, paired, margin=margin)
    if trial.serving is None:
        reason = "nothing serves yet that it could be worse than"
        trial.findings.append(Finding("not worse", Verdict.PASSED, reason))
    elif trial.is_repetition:
        reason = f"its files are those of version {trial.serving.version}, which serves"
        trial.findings.append(Finding("not worse", Verdict.PASSED, reason))
    elif trial.comparison is None:
        reason = explain_missing(place, candidate)
        if held_out is not None:
            reason = f"version {trial.serving.version} could not be compared with it"
        trial.findings.append(Finding("not worse", Verdict.UNDECIDED, reason))
    return trial


def promote(
    place: Place,
    candidate: Artifact,
    trust: SignatureSettings,
    watcher: Watcher,
    *,
    origin: str,
    action: str,
    margin: float = MARGIN,
    accept_undecided: bool = False,
) -> tuple[Trial, str]:
    """Try a candidate and, if it is let in, make it the next version. Gives the trial and the version, "" if it was refused.

    One at a time for each model: the versions on disk are looked at again once it is this one's turn.

    Raises:
        CommandError: see `try_candidate`; or nothing can be written.
        KeyFileError: this machine's signing key cannot be used.
    """
    waiting = f"{place.public_name}: waiting for another promotion"
    with exclusive(place.models / f".{place.name}.promotion.lock", waiting=lambda: watcher.note(waiting)):
        history = History(place.state, place.service, place.name)
        place = place.refresh()
        history.settle(place.models / place.name)
        trial = try_candidate(place, candidate, trust, watcher, margin=margin, rollback=action == ROLLED_BACK)
        said = {
            "id": uuid4().hex,
            "action": action,
            "model": place.public_name,
            "from": origin,
            **trial.describe(),
        }
        if not admits(trial.findings, accept_undecided=accept_undecided):
            history.add(REFUSED, said)
            return trial, ""
        signer = own_signer(place.state)
        with exclusive(place.models / f".{place.name}.lock"):
            # A pull may have added one meanwhile.
            place = place.refresh()
            entry = find_entry(place)
            version = next_version(place.versions, None if entry is None else entry.version)
            digest = digest_manifest({**_read_document(candidate), "version": version})
            said |= {"version": version, "digest": digest, "accepted_undecided": accept_undecided}
            history.add(BEGUN, said)
            watcher.note(f"copying it as version {version}")
            try:
                made = copy_artifact(candidate, place.models, version=version, sign=signer.sign)
            except ArtifactError as error:
                raise CommandError(f"{place.public_name}: {error}") from error
        assert made.digest == digest, "what was recorded is what was written"
        history.add(PROMOTED, said)
        return trial, version


def compare(
    place: Place,
    old: Artifact,
    new: Artifact,
    held_out: HeldOutSet,
    watcher: Watcher,
    *,
    serving: Artifact | None = None,
) -> Comparison:
    """Two versions on the same items, each served by a replica of its own; `serving` is the one that serves now.

    Raises:
        CommandError: one of them does not serve.
    """
    called = f"{place.public_name}, {place.call(new, serving)}"
    try:
        answers = _answer(new, called, held_out, watcher)
    except NotServedError as error:
        raise CommandError(f"{called} does not serve: {error}") from error
    assert answers is not None
    made = _compare(place, old, serving, held_out, answers, watcher)
    if made is None:
        raise CommandError(f"{place.public_name}, {place.call(old, serving)} does not serve")
    return made


def describe_paired(paired: Paired) -> dict[str, object]:
    """A paired comparison as JSON."""
    low, high = paired.interval
    return {
        "items": paired.items,
        "gained": paired.only_new,
        "lost": paired.only_old,
        "difference": round(paired.difference, 6),
        "interval": [round(low, 6), round(high, 6)],
        "p": round(paired.p_value, 6),
    }


def _judge_files(candidate: Artifact) -> Finding:
    try:
        verify(candidate)
    except ArtifactError as error:
        return Finding("digests", Verdict.FAILED, str(error))
    return Finding(
        "digests", Verdict.PASSED, f"{len(candidate.manifest.files)} files are as artifact.json says"
    )


def _judge_signature(place: Place, candidate: Artifact, trust: SignatureSettings) -> Finding:
    installed = candidate.folder.parent == place.models / place.name
    if not installed and not (candidate.folder / SIGNATURE).exists():
        # Fresh from training: whoever promotes it answers for it, and signs.
        return Finding("signature", Verdict.PASSED, "it is not signed yet; promoting signs it")
    try:
        key_id = check_signature(candidate, trust)
    except SignatureError as error:
        return Finding("signature", Verdict.FAILED, str(error))
    return Finding("signature", Verdict.PASSED, f"signed by {key_id or 'nobody, and nobody need'}")


def _judge_claims(stated: dict[str, float], measured: dict[str, float]) -> list[Finding]:
    """Whether artifact.json tells the truth of the very items that were asked about just now."""
    findings = []
    for name in sorted(stated.keys() & measured.keys()):
        seen = f"artifact.json states {name} {stated[name]:.4f}, asked anew on the same items it is {measured[name]:.4f}"
        holds = abs(stated[name] - measured[name]) <= _CLAIM
        findings.append(Finding(f"stated {name}", Verdict.PASSED if holds else Verdict.FAILED, seen))
    return findings


def _answer(artifact: Artifact, called: str, held_out: HeldOutSet | None, watcher: Watcher) -> Answers | None:
    with on_trial(artifact) as channel:
        if held_out is None:
            return None
        watcher.begin(f"asking {called}", len(held_out.items))
        try:
            labels = ask(channel, artifact.name, held_out, watcher.advance)
        finally:
            watcher.end()
    return Answers(artifact.version, tuple(labels))


def _compare(
    place: Place,
    old: Artifact,
    serving: Artifact | None,
    held_out: HeldOutSet,
    new: Answers,
    watcher: Watcher,
) -> Comparison | None:
    """None where the old version does not serve, so that it cannot be compared with."""
    called = f"{place.public_name}, {place.call(old, serving)}"
    try:
        answers = _answer(old, called, held_out, watcher)
    except NotServedError as error:
        watcher.note(f"{called} does not serve: {error}")
        return None
    assert answers is not None
    return Comparison(held_out, answers, new)


def _read_document(artifact: Artifact) -> dict[str, object]:
    document: dict[str, object] = json.loads(artifact.content)
    return document
