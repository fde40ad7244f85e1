"""Which script a text's letters are of.

Unicode's script property is not in the standard library, but the names of letters begin with it: `LATIN SMALL LETTER A`,
`CYRILLIC CAPITAL LETTER ZHE`, `CJK UNIFIED IDEOGRAPH-4E2D`.
"""

import unicodedata
from collections.abc import Collection
from functools import lru_cache


def is_mostly(scripts: Collection[str], text: str) -> bool:
    """Say whether at least half of a text's letters are of one of `scripts` (`Latin`); true for a text without letters.

    Digits, signs, emoji and combining marks are no letters and belong to no script. Letters in disguise (full-width,
    mathematical) count as what they stand for.
    """
    wanted = {script.upper() for script in scripts}
    found = [name for character in text if (name := _script_of(character)) is not None]
    return 2 * sum(name in wanted for name in found) >= len(found)


# As many entries as a text of a large script has different letters.
@lru_cache(maxsize=8192)
def _script_of(character: str) -> str | None:
    """First word of a letter's name, None for what is no letter."""
    plain = unicodedata.normalize("NFKC", character)[:1]
    if not unicodedata.category(plain).startswith("L"):
        return None
    return unicodedata.name(plain, "UNNAMED").split(" ", 1)[0]
