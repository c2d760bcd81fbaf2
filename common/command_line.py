"""What the three commands have in common: one-sentence errors, exit codes, quiet libraries."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import InputError, PrivityError, disk_is_full
from common.processes import QUIET
from common.signals import TERMINATED, TerminatedError, raising_at_sigterm

INTERRUPTED = 130
UNUSABLE = (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError)


class Parser(argparse.ArgumentParser):
    """argparse with the project's one-sentence errors, and options that are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> Any:
        """Raise `InputError`."""
        raise InputError(f"{message[0].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def run_command(
    parser: Callable[[], argparse.ArgumentParser],
    arguments: Sequence[str] | None,
    continuation: Callable[[Sequence[str]], str] = lambda _: "",
) -> int:
    """Parse, act, and turn errors into one sentence on stderr.

    Args:
        parser: Each command of it sets `action`, a function of the options to the exit code.
        continuation: What to say after "interrupted" or "terminated", from the arguments.

    Returns:
        The exit code: 0 done, 1 our fault, 2 the input's, 130 interrupted, 143 ended
        by SIGTERM.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    made = parser()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = made.parse_args(given)
        with raising_at_sigterm():
            return int(options.action(options))
    except PrivityError as error:
        _say(made.prog, str(error))
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if not isinstance(error, UNUSABLE) and not disk_is_full(error):
            raise
        _say(made.prog, _unusable(error))
        return InputError.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)  # noqa: T201
        _say(made.prog, f"interrupted{continuation(given)}")
        return INTERRUPTED
    except TerminatedError:
        _say(made.prog, f"terminated{continuation(given)}")
        return TERMINATED


def _unusable(error: OSError) -> str:
    words = f"{error.filename or 'A file'} cannot be used: {error.strerror}."
    return f"{words} {'Make room on the disk' if disk_is_full(error) else 'Name another place'}."


def _say(program: str, words: str) -> None:
    print(f"{program}: {words}", file=sys.stderr)  # noqa: T201
