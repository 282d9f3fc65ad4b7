"""A TCP proxy between kvflow and a server, which cuts connections: in a request, before a reply, or in its middle.

A request that is cut never reached the server whole; a reply that is cut was to something that the server has done.
"""

import asyncio
import threading
from collections import deque
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

from msgspec import Struct

CHUNK = 65536


class Where(StrEnum):
    REQUEST = "request"
    REPLY = "reply"


class Cut(Struct, frozen=True):
    """Cut the next connection that has something to pass in this direction, after so much of it (0 to 1)."""

    where: Where
    after: float


class Proxy:
    """Listens on a port of its own, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.cuts = 0
        self.to = port
        """Where new connections lead."""
        self._cuts: dict[Where, deque[Cut]] = {where: deque() for where in Where}
        self._loop = asyncio.new_event_loop()
        self._dammed = False
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="chaos-proxy", daemon=True)

    def cut(self, cut: Cut) -> None:
        self._cuts[cut.where].append(cut)

    def mend(self) -> None:
        """Cut nothing more."""
        for cuts in self._cuts.values():
            cuts.clear()

    def dam(self) -> None:
        """Pass nothing more, and end no connection: whoever waits at either end hears nothing."""
        self._dammed = True

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._meet, "127.0.0.1", 0, limit=CHUNK))
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _meet(self, ours: asyncio.StreamReader, to_us: asyncio.StreamWriter) -> None:
        ends = [to_us]
        try:
            theirs, to_them = await asyncio.open_connection("127.0.0.1", self.to, limit=CHUNK)
            ends.append(to_them)
            ways = (self._pass(ours, to_them, Where.REQUEST), self._pass(theirs, to_us, Where.REPLY))
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or this proxy ends: whoever asked sees the connection end
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, where: Where) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                while self._dammed:
                    await asyncio.sleep(0.05)
                cut = self._cuts[where].popleft() if self._cuts[where] else None
                to.write(data if cut is None else data[: int(len(data) * cut.after)])
                await to.drain()
                if cut is not None:
                    self.cuts += 1
                    return
