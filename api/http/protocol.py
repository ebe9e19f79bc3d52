"""The HTTP protocol of the server, which waits only so long for the head of a request.

Without one, a few thousand connections that send a byte now and then hold the server for ever.
"""

import asyncio
from importlib.util import find_spec
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 10.0
MOST_CONNECTIONS: Final = 4_096
MOST_HEAD_BYTES: Final = 65_536


class PatientH11(H11Protocol):
    """h11, not patient for ever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on, and see whether a head is still to come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next head; uvicorn itself ends a connection on which none begins."""
        super().on_response_complete()
        self._stop_watching()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def protocol() -> type[asyncio.Protocol]:
    """Return the protocol to serve with: by httptools where it is installed, else by h11."""
    if find_spec("httptools") is None:
        return PatientH11
    from api.http.protocol_httptools import PatientHttpTools

    return PatientHttpTools
