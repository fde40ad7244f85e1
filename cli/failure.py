"""The one exception that ends a command with a readable line; `cli.__main__` prints it."""


class CommandError(Exception):
    """A command cannot do what was asked; its text is the one line the user reads.

    `exit_code` is 1 where the world said no, 2 where the command line was wrong, 3 where it cannot be told.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
