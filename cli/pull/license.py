"""Which weights may be passed on, in an image say, and which everybody fetches for himself.

Not here: what a licence asks of whoever uses the weights; their cards say it.
"""

from cli.failure import CommandError
from cli.pull.catalog import Entry

# SPDX identifiers of licences under which weights may be given to others as they are. Whatever is not among them, `none
# stated` first of all, is not known to allow it.
PASSED_ON = frozenset(
    {
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CC-BY-SA-3.0",
        "CC-BY-SA-4.0",
        "CC0-1.0",
        "ISC",
        "MIT",
    }
)


class NotPassedOnError(CommandError):
    """Models that may not be put into an image; the text names each with its licence, and says what to do."""


def why_not_passed_on(license_id: str, fetch_only: str = "") -> str:
    """Empty if weights of this licence may be passed on; else why not.

    fetch_only: the reason that a catalogue gives for never passing them on, whatever the licence.
    """
    if license_id not in PASSED_ON:
        return f"licence '{license_id}' is not known to let weights be passed on"
    if fetch_only:
        return f"licence '{license_id}', but {fetch_only}"
    return ""


def refuse_fetch_only(entries: list[Entry]) -> None:
    """Check that all of them may be passed on.

    Raises:
        NotPassedOnError: some may not.
    """
    reasons = [
        (entry, why_not_passed_on(entry.text("license"), entry.text("fetch_only"))) for entry in entries
    ]
    refused = [(entry, reason) for entry, reason in reasons if reason]
    if not refused:
        return
    lines = [f"  {entry.public_name}: {reason}" for entry, reason in refused]
    names = ",".join(entry.name for entry, _ in refused)
    raise NotPassedOnError(
        "these models may be fetched, but not put into an image:\n"
        + "\n".join(lines)
        + f'\nleave them out: --without "{names}" (of a build: --build-arg WITHOUT="{names}"); '
        "deploy/README.md says how to serve them all the same"
    )
