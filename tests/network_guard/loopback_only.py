"""No test may reach beyond this machine: attempts are refused before a packet leaves, and written down.

An audit hook sees every name look-up and every connection that Python makes, through whatever reference the
code holds to them, and cannot be undone by the code under test. Each attempt at another machine is appended
to the file named in `NETWORK_GUARD_LOG`, because the code under test may swallow the exception.

Child processes install the same guard: this folder is on their PYTHONPATH, and Python imports
`sitecustomize` at its start. gRPC opens its connections without Python; it is sent to `RefusingProxy`.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

LOG_VARIABLE = "NETWORK_GUARD_LOG"
LOCAL_NAMES = frozenset({"", "localhost", "ip6-localhost"})


class NetworkAccessError(RuntimeError):
    """A test tried to reach another machine. No OSError, which would pass for an ordinary failure."""


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` spells, in any form the system reads without asking a name server, else None."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_loopback(host: str) -> bool:
    """Whether `host` is localhost or an address of it."""
    if host in LOCAL_NAMES:
        return True
    address = literal_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return address is not None and (mapped or address).is_loopback


def refuse(event: str, target: str) -> None:
    """Write the attempt down and raise NetworkAccessError."""
    log = os.environ.get(LOG_VARIABLE)
    if log:
        with Path(log).open("a", encoding="utf-8") as lines:
            lines.write(f"{event} {target} in process {os.getpid()}: {' '.join(sys.argv)[:200]!r}\n")
    raise NetworkAccessError(f"{event}: a test may reach this machine only, not {target}")


def check_name(event: str, host: Any) -> None:
    """Refuse to look up a name; reading an address sends nothing."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if name not in LOCAL_NAMES and literal_address(name) is None:
        refuse(event, repr(name))


def check_target(event: str, sock: socket.socket, address: Any) -> None:
    """Refuse to send to or connect with another machine."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or address is None:
        return
    host = address[0].decode("ascii", "replace") if isinstance(address[0], bytes) else str(address[0])
    if not is_loopback(host):
        refuse(event, repr(address))


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Hook for `sys.addaudithook`."""
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        check_target(event, *arguments)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        check_name(event, arguments[0])
    elif event in ("socket.gethostbyaddr", "socket.getnameinfo"):
        asked = arguments[0] if event == "socket.gethostbyaddr" else arguments[0][0]
        if not is_loopback(str(asked)):
            refuse(event, repr(asked))


def check_first(name: str, address_at: int) -> None:
    """Check the address before `socket.<name>` runs: given a name, it would look that up ahead of its audit event."""
    original = getattr(socket.socket, name)

    @functools.wraps(original)
    def checked(sock: socket.socket, *arguments: Any) -> Any:
        if len(arguments) > address_at or address_at < 0:
            check_target(f"socket.{name}", sock, arguments[address_at])
        return original(sock, *arguments)

    setattr(socket.socket, name, checked)


@functools.cache
def install() -> None:
    """Guard this process, once and for good."""
    sys.addaudithook(audit)
    check_first("connect", 0)
    check_first("connect_ex", 0)
    check_first("sendto", -1)
    check_first("sendmsg", 3)


class RefusingProxy(threading.Thread):
    """A proxy that writes down where gRPC wanted to go and hangs up.

    gRPC leaves the look-up of names to its proxy, so that no packet leaves the machine.
    """

    def __init__(self) -> None:
        super().__init__(name="refusing proxy", daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                request = connection.recv(4096).decode("ascii", "replace").split()
                try:
                    refuse("grpc", request[1] if len(request) > 1 else "somewhere")
                except NetworkAccessError:
                    continue
