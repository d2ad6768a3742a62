"""Who of the processes of a run is lost: each holds a connection to the first one, which the system ends with the process.

Without it JAX finds out after a minute and a half, and ends all that are left with a message of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import secrets
import socket
import sys
import threading
from collections.abc import Callable

_GOODBYE = "goodbye"
_LONGEST_LINE = 300
_SECONDS_TO_JOIN = 60.0
# A computation that waits for a process that is gone fails of itself, where it can; one that cannot is ended.
_SECONDS_TO_FAIL = 15.0


class Watch:
    """What one process knows of the others.

    Attributes:
      advice: gives a sentence on what is safe and how to go on, once there is something to go on with.
    """

    def __init__(self, index: int, count: int) -> None:
        """Begins nothing yet; `listen` in the first process, `join` in the others.

        Args:
          index: of this process.
          count: of all.
        """
        self._index, self._count = index, count
        self._lost, self._told = threading.Event(), ""
        self._left = False
        self._peers: dict[int, socket.socket] = {}
        self.advice: Callable[[], str] = lambda: ""
        atexit.register(self.leave)

    def listen(self) -> tuple[int, str]:
        """Waits for the others in the background; the port and the word by which they are known."""
        server, word = socket.create_server(("", 0), backlog=self._count), secrets.token_hex(16)
        server.settimeout(_SECONDS_TO_JOIN)
        threading.Thread(target=self._accept, args=(server, word), daemon=True, name="watch").start()
        return int(server.getsockname()[1]), word

    def join(self, host: str, port: int, word: str) -> None:
        """Connects to the first process; where that cannot be reached, nothing is watched."""
        with contextlib.suppress(OSError):
            connection = socket.create_connection((host, port), timeout=_SECONDS_TO_JOIN)
            connection.settimeout(None)
            _send(connection, f"{word} {self._index} process {os.getpid()} on {platform.node()}")
            self._peers[0] = connection
            threading.Thread(target=self._follow, args=(connection, 0, host), daemon=True, name="watch").start()

    def lost(self, seconds: float) -> str:
        """A sentence on the process that is lost; empty where none is within so many seconds."""
        return self._told if self._lost.wait(seconds) else ""

    def leave(self) -> None:
        """Says goodbye: this process ends of its own accord."""
        self._left = True
        for connection in list(self._peers.values()):
            _send(connection, _GOODBYE)

    def _accept(self, server: socket.socket, word: str) -> None:
        with server, contextlib.suppress(OSError):
            while len(self._peers) < self._count - 1:
                connection, _ = server.accept()
                connection.settimeout(_SECONDS_TO_JOIN)
                given, _, rest = _receive(connection).partition(" ")
                index, _, who = rest.partition(" ")
                if not secrets.compare_digest(given.encode(), word.encode()) or not index.isdecimal():
                    connection.close()
                    continue
                connection.settimeout(None)
                self._peers[int(index)] = connection
                thread = threading.Thread(
                    target=self._follow, args=(connection, int(index), who), daemon=True, name="watch"
                )
                thread.start()

    def _follow(self, connection: socket.socket, index: int, who: str) -> None:
        """Reads what a process says, until it says goodbye or is gone."""
        told = _receive(connection)
        if told == _GOODBYE or self._left:
            return
        self._told = (
            told
            or f"Process {index} of this run ({who}) has ended without a word: it was killed, or its machine is lost."
        )
        for peer in [each for number, each in self._peers.items() if number != index and self._index == 0]:
            _send(peer, self._told)
        self._lost.set()
        threading.Event().wait(_SECONDS_TO_FAIL)
        print(f"error: {self._told} {self.advice()}".rstrip(), file=sys.stderr, flush=True)
        os._exit(1)


def _send(connection: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(line.encode()[:_LONGEST_LINE] + b"\n")


def _receive(connection: socket.socket) -> str:
    """The next line; empty where the other end is gone."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LONGEST_LINE:
        try:
            byte = connection.recv(1)
        except OSError:
            return ""
        if not byte:
            return ""
        line += byte
    return line.decode(errors="replace").strip()
