"""Errors a user can mend: one sentence that says what to do, exit code 2, no traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141  # as a shell says it: 128 and SIGPIPE


class UserError(Exception):
    """Something the user can put right; the message is one sentence that says how."""


# Reasons that asking again would only repeat: remembered until `--retry-failed`. All others pass.
PERMANENT = frozenset({"refused", "blocked", "truncated", "invalid_reply", "empty_reply", "bad_request"})


class RowFailed(Exception):
    """One row could not be done; `reason` is a short code that funnels and reruns go by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[RowFailed], tuple[str, str]]:
        """Travels between processes; an exception's own way knows only its one message."""
        return type(self), (self.reason, self.detail)


def unknown(kind: str, name: object, choices: object) -> UserError:
    """The error for a name that is not in a table, listing the names that are."""
    return UserError(f"Unknown {kind} {str(name)!r}; choose from: {', '.join(choices)}.")  # type: ignore[arg-type]


def missing_package(package: str, extra: str) -> UserError:
    """The error for a package that a chosen feature needs and the environment lacks."""
    return UserError(f"This needs the package {package}: run `pip install -e '.[{extra}]'`.")


DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})  # no row's own fault


def unwritten(error: OSError) -> UserError | None:
    """One sentence for a disk that is full, broken or read-only; None for any other error."""
    if error.errno not in DISK:
        return None
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.EROFS, errno.EIO):
        return UserError(f"Cannot write{where} ({error.strerror}): everything finished so far is kept.")
    return UserError(
        f"The disk is full, or a quota is used up ({error.strerror}): make room and run the same command "
        "again; everything finished so far is kept."
    )


def run_cli(
    main: Callable[[], int | None],
    when_stopped: str = "Everything finished so far is kept; the same command goes on from here.",
) -> None:
    """Run a command line's `main`; user errors end in one sentence, Ctrl-C and SIGTERM in exit code 130."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"\nStopped. {when_stopped}", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # `... | head` closed our output: no error, but the rest is not done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_CLOSED_PIPE
    except OSError as error:
        problem = unwritten(error) or _forbidden(error)
        if problem is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        code = EXIT_USER_ERROR
    sys.exit(code)


def _forbidden(error: OSError) -> UserError | None:
    if not isinstance(error, PermissionError):
        return None
    return UserError(f"Not allowed to open {error.filename}: change its permissions, or name another folder.")


def _as_ctrl_c(_: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does, also where Ctrl-C itself is ignored (in the background, say)."""
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt):
        raise KeyboardInterrupt
    interrupt(signal.SIGINT, frame)
