"""Music for those who wait on the telephone: five pieces, at 8 kHz as they are played there."""

from pathlib import Path

from services.speech.training.data.clips import Clip, read_clip, require

MUSIC = "music"


def read_music(data: Path) -> list[Clip]:
    """Read the pieces of `asterisk-moh`, minutes each; `voice` is the piece.

    Raises:
        DataError: not there, damaged, or nothing found.
    """
    folder = data / "asterisk-moh"
    clips = [
        Clip(read_clip(path), MUSIC, path.stem, "asterisk-moh", path.stem)
        for path in sorted(folder.rglob("*.wav"))
    ]
    require(clips, folder, "pieces of music", "run `sensorium data pull asterisk-moh`", labels=1)
    return clips
