"""What an audio file says of itself, read without decoding: which container it is, and whether its parts are all there.

Lives here: the magic numbers of the four containers that are accepted, the chunk walk of WAV and the page walk of OGG.
Not here: decoding (`decoding`), which also checks what FLAC and MP3 declare.

libsndfile plays a WAV or OGG file whose end is missing up to the cut and says nothing. A caller who uploads half a
clip should hear of it, so the lengths that the file declares are compared with the bytes that came.
Sources: RIFF as in Microsoft's "Multiple Channel Audio Data and WAVE Files"; Ogg as in RFC 3533.
"""

import zlib
from collections.abc import Callable

# Shortest prefix that tells the containers apart.
_MAGIC_BYTES = 12
# A program that writes WAV to a pipe cannot know the length: ffmpeg writes 0xFFFFFFFF, sox 0x7FFFFFFF less the header,
# arecord 2 GiB. No clip that fits a message is near that, so such a length says "until the end".
_UNKNOWN_LENGTH = 0x7FFF0000
_OGG_HEADER_BYTES = 27
_BEGINS_STREAM = 2  # of a page's flags
_PAGES_PER_CHECK = 1000  # some milliseconds
# Every byte with its bits in reverse order: Ogg's checksum is zlib's polynomial fed from the other end.
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def container_of(content: bytes) -> str:
    """Name the container by its first bytes: `WAV`, `FLAC`, `OGG`, `MP3`, or `` for anything else."""
    head = content[:_MAGIC_BYTES]
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS":
        return "OGG"
    # An ID3 tag may stand before the first frame; a frame begins with eleven set bits; layer III is 01.
    if head[:3] == b"ID3" or (len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "MP3"
    return ""


def declared_ratio(content: bytes) -> float:
    """How many times more bytes of samples a WAV file declares than it has; 1 if complete or of unknown length."""
    at = 12
    while at + 8 < len(content):
        declared = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            present = len(content) - at - 8
            return 1.0 if declared >= _UNKNOWN_LENGTH else max(1.0, declared / present)
        # Chunks start on even bytes.
        at += 8 + declared + declared % 2
    return 1.0


def check_pages(content: bytes, check: Callable[[], None]) -> tuple[int, str]:
    """Walk over the pages of an OGG file; `check` is called now and then, and raises when the work is no longer wanted.

    Returns:
        where the last page ends, and what is wrong with the first bad one; empty if all are whole. Behind the last page
        may stand what is none (zeros, a tag): players pass over it, libsndfile now and then stumbles.
    """
    at = 0
    number = 0
    inside = False  # behind the first pages, of which there is one per stream side by side
    while content[at : at + 4] == b"OggS":
        number += 1
        if number % _PAGES_PER_CHECK == 0:
            check()
        segments = content[at + 26] if at + 26 < len(content) else 0
        body = at + _OGG_HEADER_BYTES + segments
        end = body + sum(content[at + _OGG_HEADER_BYTES : body])
        if at + _OGG_HEADER_BYTES > len(content) or end > len(content):
            return at, f"page {number} is cut off"
        page = content[at:end]
        if int.from_bytes(page[22:26], "little") != _checksum(page):
            return at, f"the checksum of page {number} does not match"
        begins = bool(page[5] & _BEGINS_STREAM)
        if begins and inside:
            # libsndfile would play the first stream and drop the rest without a word.
            return at, f"another stream begins behind the first, at page {number}"
        inside = not begins
        at = end
    if content.find(b"OggS", at) >= 0:
        return at, f"other bytes stand between page {number} and the next"
    return at, ""


def _checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533 section 6: polynomial 0x04C11DB7, most significant bit first, the field itself as zeros."""
    blank = page[:22] + bytes(4) + page[26:]
    # zlib begins and ends with an inversion, which Ogg does not.
    reflected = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
