"""Becomes another program that the kernel ends (SIGTERM) when its supervisor dies, even of SIGKILL.

Run as a file: `launch.py SUPERVISOR_PID PROGRAM ARGUMENT...`. A `preexec_fn` would do the same but is not safe beside
threads. Only the standard library, and few modules: it runs before every child.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the program; does not return."""
    supervisor, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("The supervisor died before its child started.")
    # Python ignores SIGPIPE, and an ignored signal stays ignored in the next program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"Cannot start {program[0]}: {error.strerror}.")


if __name__ == "__main__":
    main()
