"""The console script: runs a command, turns every expected failure into one line on stderr and an exit code.

Exit codes: 0 done, 1 it could not be done, 2 the command line was wrong, 130 interrupted, 143 ended by SIGTERM.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from cli.app import app
from cli.failure import CommandError
from shared.errors import StartupError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` (default: the command line) say and returns its exit code."""
    _replace_closed_streams()
    _write_anything()
    try:
        with _ends_by_sigterm():
            code = app(args=arguments, prog_name="sensorium", standalone_mode=False)
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except StartupError as error:
        return _fail(str(error), 1)
    except typer.exceptions.TyperException as error:
        message = error.format_message()
        # Without a message it was asked for help by giving no command, and has printed it.
        if not message:
            return 2
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sensorium"
        return _fail(f"{message.rstrip('.')} (see {command} --help)", error.exit_code)
    except _Terminated:
        return 128 + signal.SIGTERM
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # The reader of our output left (`| head`): without a new stdout, its flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", 1)
        # What has no name is the output itself.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # what is still buffered would fail once more at exit
        return _fail(f"the output cannot be written: {error.strerror or error}", 1)
    return code if isinstance(code, int) else 0


def _write_anything() -> None:
    """Have what the terminal cannot show written all the same: names of files byte for byte, letters as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf_8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf_8 else "backslashreplace")


class _Terminated(BaseException):
    """SIGTERM came. No KeyboardInterrupt, whose exit code is another."""


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


@contextlib.contextmanager
def _ends_by_sigterm() -> Iterator[None]:
    """What a command has begun is cleared away as after Ctrl-C; `sensorium up` drains instead, by handlers of its own."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _replace_closed_streams() -> None:
    """A shell can start us without them (`<&-`, `>&-`), and Python says None then: an empty input, and nobody who reads."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open as long as the process


def _fail(message: str, exit_code: int) -> int:
    print(f"sensorium: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
