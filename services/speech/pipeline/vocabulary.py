"""Moonshine's vocabulary: from token numbers to text.

Source of the format: moonshine-voice 0.0.48, `assets/tiny-en/tokenizer.bin`. Entries stand in the order of their
numbers, each as its length and that many bytes; 0 is an empty entry, a length of 128 or more takes two bytes,
`low` + 128 x `high` - 128.
"""

from collections.abc import Sequence

_FIRST_TEXT_ID = 3  # below are <unk>, <s> and </s>
_MARK = b"<<ST_"  # the last 768 entries, `<<ST_0>>` and so on
_SPACE = "\u2581"


class Vocabulary:
    """The entries of one model's vocabulary."""

    def __init__(self, content: bytes) -> None:
        """Read the file's bytes.

        Raises:
            ValueError: the last entry is cut off.
        """
        self._entries: list[bytes] = []
        at = 0
        while at < len(content):
            size = content[at]
            at += 1
            if size >= 128:
                if at == len(content):
                    raise ValueError(f"vocabulary: entry {len(self._entries)} is cut off")
                size += content[at] * 128 - 128
                at += 1
            if at + size > len(content):
                raise ValueError(f"vocabulary: entry {len(self._entries)} is cut off")
            entry = content[at : at + size]
            self._entries.append(b"" if entry.startswith(_MARK) else entry)
            at += size

    def __len__(self) -> int:
        return len(self._entries)

    def text(self, tokens: Sequence[int]) -> str:
        """Join the tokens' bytes; bytes that are no UTF-8 (half a letter at a stop) become U+FFFD."""
        content = b"".join(
            self._entries[token] for token in tokens if _FIRST_TEXT_ID <= token < len(self._entries)
        )
        return content.decode("utf-8", "replace").replace(_SPACE, " ").strip()
