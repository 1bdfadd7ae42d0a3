"""Finding a TCP port nobody listens on."""

import socket

import psutil


def is_free(host: str, port: int) -> bool:
    """Return True if a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def next_free(host: str, first: int) -> int:
    """Return the first free port of the hundred from ``first`` on, else any free one."""
    return next((port for port in range(first, min(first + 100, 65536)) if is_free(host, port)), any_free(host))


def any_free(host: str) -> int:
    """Return a free port of the system's choice."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def owner(port: int) -> str:
    """Return who listens on the port, as far as we may know: "python3, process 123" or "another process"."""
    try:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        pid = next((each.pid for each in listening if getattr(each.laddr, "port", None) == port), None)
        return f"{psutil.Process(pid).name()}, process {pid}" if pid else "another process"
    except psutil.Error:
        return "another process"
