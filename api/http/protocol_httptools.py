"""The protocol of `api.http.protocol` over httptools; only to be loaded where that is installed."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http import protocol


class _Joining:
    """A transport that sends an answer's head with what follows it at once.

    uvicorn writes the two by themselves, which takes two calls of the system, and the client is
    woken twice: a third of what a small answer costs.
    """

    def __init__(self, bare: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.bare = bare
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Write with what is held; hold what begins until the next write, or the loop's turn."""
        if self._held:
            held, self._held = self._held, b""
            self.bare.writelines((held, data))
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close, once everything is written."""
        self._flush()
        self.bare.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.bare.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


class PatientHttpTools(HttpToolsProtocol):
    """httptools, not patient for ever, and with a limit on a head's size, which it has not."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _Joining(transport, self.loop))
        if len(self.connections) > protocol.MOST_CONNECTIONS:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head has become too large."""
        if self._head_timer is not None:
            end = data.find(b"\r\n\r\n")
            self._head_bytes += len(data) if end < 0 else end
            if self._head_bytes > protocol.MOST_HEAD_BYTES:
                self.transport.abort()
                return
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        """Hand the bare transport on: whoever writes to it now must see when it is full."""
        self.transport = cast("_Joining", self.transport).bare
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._watch()

    def on_headers_complete(self) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(protocol.HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_watching(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
