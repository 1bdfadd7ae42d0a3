"""Becomes a program, inside limits and tied to the life of the process that started it. Standard library only.

    python -I -S launcher.py STATUS_FD PARENT_PID LIMITS ARGV...

LIMITS is ``NAME=VALUE,...`` with names of ``resource`` (``CPU=5,AS=268435456``), "" for none. If the program cannot be
started its errno goes to STATUS_FD, which closes silently when it can.

Why a launcher: a limit set on the pid after the start comes too late (the program may have forked by then), and
``preexec_fn`` runs Python between fork and exec, which can deadlock in a process with threads. It costs some 15 ms a
run: no site-packages (-S), no ``signal`` (its enums take longer than all the rest), no ``json``.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG, SIGPIPE, SIGKILL, SIGXFSZ = 1, 13, 9, 25  # Linux


def tie_to(parent: int, libc: ctypes.CDLL) -> None:
    """Ask the kernel to kill this process when the *thread* that started it ends (prctl(2)); exec keeps this.

    That is what we want: the thread that starts a program stays with it until it has ended, so it can only be gone
    first when its process died. A set-user-ID program loses the tie, and a program's own children do not have it:
    for those there is ``guard.py``.
    """
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent:  # it died before the tie was made
        os._exit(1)


def restore_signals(libc: ctypes.CDLL) -> None:
    """Undo what the Python start ignores: a program expects to die of SIGPIPE, and of SIGXFSZ at its limit."""
    libc.signal(SIGPIPE, None)
    libc.signal(SIGXFSZ, None)


def set_limits(limits: str) -> None:
    """Set each limit, as far down as the machine's own limit allows. CPU gets 2 s between the warning and the kill."""
    for limit in filter(None, limits.split(",")):
        name, _, text = limit.partition("=")
        which, soft = getattr(resource, f"RLIMIT_{name}"), int(text)
        ceiling = resource.getrlimit(which)[1]
        hard = soft + 2 if name == "CPU" else soft
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))


def main(argv: list[str]) -> None:
    """Exec the program of ``argv``; comes back never."""
    status, libc = int(argv[0]), ctypes.CDLL(None)
    os.set_inheritable(status, False)
    tie_to(int(argv[1]), libc)
    restore_signals(libc)
    try:
        set_limits(argv[2])
        os.execvp(argv[3], argv[3:])
    except OSError as error:
        os.write(status, str(error.errno).encode())
    os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
