"""How long an MP3 really is: its frames counted, and a header that says so.

Lives here: the frame walk and the length header of MPEG-1/2/2.5 Layer III. Not here: decoding, which libsndfile does.

An MP3 has no length of its own. Encoders may put one into the first frame (Xing, Info or VBRI); where there is none,
libsndfile guesses from the first frame's bit rate **and stops there**: of a 10 s clip whose bit rate varies it played 1.7 s.
So frames are counted here, and a file without a length, or with one that is too short, gets a new first frame with the
count. Sources: ISO/IEC 11172-3 section 2.4.1 (frame header), the Xing and VBRI layouts as LAME and Fraunhofer write them.
"""

import functools
import re
from dataclasses import dataclass

_KBIT_PER_S_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_PER_S_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_V1 = (44_100, 48_000, 32_000)
_RESERVED_RATE = 3  # of the rate's index
_SEARCHED_BYTES = 1 << 16  # behind the tag: more than players search for a first frame
_MPEG1 = 3  # of the version field; 2 is MPEG-2 (half the rates), 0 is MPEG-2.5 (a quarter)
# Layer III with a bit rate and a sampling rate that are not reserved, free-format left out: its length is not in the header.
_HEADER = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xeb]", re.DOTALL)
# Encoders count the header's own frame or not, and lose one or two at the end.
_COUNT_TOLERANCE = 3
_FRAMES_BEYOND = 16  # walked behind the longest clip: more than a file's delay, padding and length frame
_LENGTH_FRAME_BIT_RATE = 9  # index: 128 or 80 kbit/s, so that the frame has room for a length at every rate


@dataclass(frozen=True)
class Frames:
    """The frames of a file: where the first is, how many follow (itself included), and how many the file declares."""

    start: int
    count: int
    declared: int | None
    seconds_each: float

    @property
    def cut_off(self) -> bool:
        """Whether the file declares more frames than it has."""
        return self.declared is not None and self.count < self.declared - _COUNT_TOLERANCE


def count_frames(content: bytes, *, max_duration_s: float) -> Frames | None:
    """Walk over the frames, stopping soon after `max_duration_s`; None if there is none."""
    start = _find_first(content)
    if start is None:
        return None
    version, rate_index = _read_shape(content, start)
    samples, rate_hz = _shape(version, rate_index)
    # All frames of a file share version and rate; that finds the next one behind damage and skips what only looks like one.
    same = _same_shape(version, rate_index)
    limit = int(max_duration_s * rate_hz / samples) + _FRAMES_BEYOND
    count, at = 0, start
    while count < limit:
        if same.match(content, at) is None:
            found = same.search(content, at)
            if found is None:
                break
            at = found.start()
        at += _length(content[at : at + 3])
        if at > len(content):
            break
        count += 1
    return Frames(start, count, _declared(content, start), samples / rate_hz)


def with_length(content: bytes, frames: Frames) -> bytes:
    """Give the file a first frame that states its length, if it has none or one that is too small."""
    if frames.declared is not None and frames.count <= frames.declared + _COUNT_TOLERANCE:
        return content
    start, count = frames.start, frames.count
    if frames.declared is not None:
        start, count = start + _length(content[start : start + 3]), count - 1
    return _length_frame(content[frames.start : frames.start + 4], count) + content[start:]


def _find_first(content: bytes) -> int | None:
    """Find the first frame that another one follows, or the end: a header alone is three bytes that anything may hold."""
    at = _tag_bytes(content)
    end = at + _SEARCHED_BYTES
    while (found := _HEADER.search(content, at, end)) is not None:
        start = found.start()
        version, rate_index = _read_shape(content, start)
        if rate_index != _RESERVED_RATE:
            following = start + _length(content[start : start + 3])
            if following == len(content) or _same_shape(version, rate_index).match(content, following):
                return start
        at = start + 1
    return None


def _read_shape(content: bytes, start: int) -> tuple[int, int]:
    """Version and index of the sampling rate."""
    return content[start + 1] >> 3 & 3, content[start + 2] >> 2 & 3


@functools.cache
def _same_shape(version: int, rate_index: int) -> re.Pattern[bytes]:
    """Match the first three bytes of a frame with this version and rate, with or without a checksum, at any bit rate."""
    second = [0xE2 | version << 3 | protection for protection in (0, 1)]
    third = [kbit << 4 | rate_index << 2 | low for kbit in range(1, 15) for low in range(4)]
    return re.compile(b"\xff[" + re.escape(bytes(second)) + b"][" + re.escape(bytes(third)) + b"]", re.DOTALL)


def _length_frame(header: bytes, count: int) -> bytes:
    """A frame without sound whose payload is a Xing header with the number of frames that follow."""
    # No checksum, no padding; version, rate and channel mode as in the file.
    head = bytes([0xFF, header[1] | 1, _LENGTH_FRAME_BIT_RATE << 4 | header[2] & 0x0C, header[3]])
    place = _side_information_end(head)
    body = head + bytes(place - 4) + b"Xing" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return body + bytes(_length(head) - len(body))


def _declared(content: bytes, start: int) -> int | None:
    place = start + _side_information_end(content[start : start + 4])
    if content[place : place + 4] in (b"Xing", b"Info"):
        has_count = int.from_bytes(content[place + 4 : place + 8], "big") & 1
        return int.from_bytes(content[place + 8 : place + 12], "big") if has_count else 0
    place = start + 36
    if content[place : place + 4] == b"VBRI":
        return int.from_bytes(content[place + 14 : place + 18], "big")
    return None


def _side_information_end(header: bytes) -> int:
    """Where the payload of a frame begins, which is where encoders put the length."""
    mono = header[3] >> 6 == 3
    if header[1] >> 3 & 3 == _MPEG1:
        return 4 + (17 if mono else 32)
    return 4 + (9 if mono else 17)


def _shape(version: int, rate_index: int) -> tuple[int, int]:
    """Samples per frame and channel, samples per second."""
    if version == _MPEG1:
        return 1152, _RATES_V1[rate_index]
    return 576, _RATES_V1[rate_index] // (2 if version == 2 else 4)


def _length(header: bytes) -> int:
    """Bytes of the frame with this header."""
    version = header[1] >> 3 & 3
    samples, rate_hz = _shape(version, header[2] >> 2 & 3)
    table = _KBIT_PER_S_V1 if version == _MPEG1 else _KBIT_PER_S_V2
    return samples // 8 * table[header[2] >> 4] * 1000 // rate_hz + (header[2] >> 1 & 1)


def _tag_bytes(content: bytes) -> int:
    """Size of the ID3v2 tag in front, 0 without one; its size is written in 7-bit bytes."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size
