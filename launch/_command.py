"""What every command shares: a mistake of the user's ends in one line and an exit code, never in a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

FINE = 0
"""All well."""
NOT_FINE = 1
"""The command worked; what it checked is not fine."""
WRONG_USE = 2
"""Wrong options, configuration or input."""
STOPPED = 3
"""A run stopped by itself: non-finite loss, too many bad clips, a stalled rank."""
PREEMPTED = 75
"""Stopped by a signal after a complete save; the same command with --resume auto continues."""
INTERRUPTED = 130
"""Ctrl-C."""


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and leave the process with its exit code.

    ValueError and OSError are mistakes of input by the project's convention: their message is the one line shown.
    Set VADV_TRACEBACK=1 to see where they were raised.
    """
    try:
        code = main() or FINE
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (`| head`): not an error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FINE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except (ValueError, OSError) as error:
        if os.environ.get("VADV_TRACEBACK"):
            raise
        print(f"{os.path.basename(sys.argv[0])}: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: PTH119
        code = WRONG_USE
    sys.exit(code)
