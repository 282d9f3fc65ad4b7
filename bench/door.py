"""A door in front of a server, on loopback: it passes bytes on and counts how often a client asks and has to wait.

What is sent before the server answers is one question, in however many packets; so this counts round trips whatever the
driver, and a pipeline counts once.
"""

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 2**16


class Door:
    """Listens at ``port`` for the server at ``address`` until it is closed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.turns = 0
        self._waker, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._asking: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wake.close()
        self._thread.join()
        for end in (self._listener, self._waker, *self._other):
            end.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._waker in ready:
                return
            if self._listener in ready:
                self._admit()
            for end in list(self._other):
                if end in ready and end in self._other:
                    self._pass_on(end)

    def _admit(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._address)
        self._clients.add(client)
        for end, other in ((client, server), (server, client)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        other = self._other[end]
        data = b""
        with suppress(ConnectionError):
            data = end.recv(CHUNK)
            other.sendall(data)
        if not data:
            self._end(end, other)
        elif end not in self._clients:
            self._asking.discard(other)
        elif end not in self._asking:
            self._asking.add(end)
            self.turns += 1

    def _end(self, *pair: socket.socket) -> None:
        for end in pair:
            self._selector.unregister(end)
            del self._other[end]
            self._asking.discard(end)
            self._clients.discard(end)
            end.close()
