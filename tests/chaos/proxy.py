"""A way into a server that can be cut: a port of its own that stalls, refuses or drops."""

import asyncio
import contextlib
from typing import Final, Literal

Cut = Literal["stalled", "refused", "dropped"]
CUTS: Final[tuple[Cut, ...]] = ("stalled", "refused", "dropped")

_HOST: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16


class Proxy:
    """One link: what connects to `port` talks to `target`, both of the loopback interface."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def open(self) -> None:
        """Listen; nothing happens where it listens already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, _HOST, self.port)

    async def close(self) -> None:
        """Refuse what comes, and end what is there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()
        self._flowing.set()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def cut(self, way: Cut) -> None:
        """Cut the link: nothing flows, nobody connects, or what is connected ends."""
        match way:
            case "stalled":
                self._flowing.clear()
            case "refused":
                await self.close()
            case "dropped":
                self.drop()

    async def heal(self) -> None:
        """Let everything through again."""
        self._flowing.set()
        await self.open()

    def drop(self) -> None:
        """End every connection there is, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        self._writers.add(writer)
        try:
            # Cancelled, it ends as it would have: what serves a connection has nobody to tell.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._flowing.wait()
                there = await asyncio.open_connection(_HOST, self._target)
                await self._join((reader, writer), there)
        finally:
            await self._end(writer)
            self._serving.discard(serving)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _join(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pass on what either side says, until one of them ends."""
        self._writers.add(there[1])
        pumps = [
            asyncio.create_task(self._pump(here[0], there[1])),
            asyncio.create_task(self._pump(there[0], here[1])),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await self._end(there[1])

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while told := await reader.read(_CHUNK):
                await self._flowing.wait()
                writer.write(told)
                await writer.drain()
