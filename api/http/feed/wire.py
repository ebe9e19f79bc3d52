"""The socket as a connection of the feed sees it: ready for one frame at a time.

`FeedProtocol` is uvicorn's own WebSocket protocol, for `uvicorn.Config(ws=...)`: it lets the feed
write frames straight to the transport, so that one event for a thousand clients costs a thousand
writes and no task switches, and it knows how to end a connection whose client does not read. Under
any other server frames go the ordinary way, one task for each.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State
from websockets.server import ServerProtocol

from api.http.feed.frames import MAX_FRAME_BYTES, Frame

_log = logging.getLogger(__name__)
EXTENSION: Final = "daybook.wire"
_KERNEL_BYTES: Final = 131_072
"""What the kernel may hold for a client that is slow; the rest is conflated here."""
_LEAVE_S: Final = 5.0
_TEXT: Final = 0x81
"""The first byte of a frame that is a whole text."""


class Wire(Protocol):
    """Where frames go."""

    @property
    def is_ready(self) -> bool:
        """Tell whether a frame can be sent now."""
        ...

    def send(self, frame: Frame) -> None:
        """Send a frame; only when ready."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Tell the reason, and end the connection even if the client never reads it."""
        ...


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiWire:
    """Sends by ASGI, one frame after another."""

    def __init__(self, send: Send, on_ready: Callable[[], None]) -> None:
        self._send = send
        self._on_ready = on_ready
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Tell whether no frame is on its way."""
        return self._task is None and not self._is_closed

    def send(self, frame: Frame) -> None:
        """Send a frame in a task of its own."""
        self._start({"type": "websocket.send", "text": b"".join(frame).decode()})

    def close(self, code: int, reason: str) -> None:
        """Close; a frame that does not get through is given up."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
        self._start({"type": "websocket.close", "code": code, "reason": reason})

    def _start(self, message: MutableMapping[str, Any]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._sent(message))
        self._task.add_done_callback(self._done)

    async def _sent(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(_LEAVE_S if self._is_closed else None):
                await self._send(message)
        except (OSError, RuntimeError, TimeoutError) as error:
            # The client is gone, or does not read its end: whoever receives notices.
            _log.debug("a frame could not be sent: %r", error)
            self._is_closed = True

    def _done(self, task: asyncio.Task[None]) -> None:
        if task is self._task:
            self._task = None
            if not self._is_closed:
                self._on_ready()


class FeedProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, without compression, which the feed may write to directly.

    Compressing each frame for each client would cost more than all else.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = ServerProtocol(max_size=MAX_FRAME_BYTES)
        self._wire: DirectWire | None = None

    def handle_connect(self, event: Any) -> None:
        """Offer the wire to the application, in the scope."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][EXTENSION] = self

    def open_wire(self, on_ready: Callable[[], None]) -> Wire:
        """Return this as a wire; `on_ready` is called when it is ready again."""
        self.transport.set_write_buffer_limits(high=0)
        kernel_socket = self.transport.get_extra_info("socket")
        if kernel_socket is not None:
            kernel_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        self._wire = DirectWire(self, on_ready)
        return self._wire

    def pause_writing(self) -> None:
        """Send nothing more until the kernel has taken it."""
        super().pause_writing()
        if self._wire is not None:
            self._wire.is_ready = False

    def resume_writing(self) -> None:
        """Go on with what has changed meanwhile."""
        super().resume_writing()
        if self._wire is not None:
            self._wire.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Send nothing more."""
        if self._wire is not None:
            self._wire.is_ready = False
        super().connection_lost(exc)

    def end(self, code: int, reason: str) -> None:
        """Write a close frame; a client that does not take it in time is cut off."""
        if self.close_sent or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(_LEAVE_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Cut off a client that answers no ping: it may never read what is written for it."""
        super().keepalive_timeout()
        self.loop.call_later(_LEAVE_S, self.transport.abort)


@lru_cache(maxsize=1024)
def _text_head(size: int) -> bytes:
    """Return what stands before a whole text of a server (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((_TEXT, size))
    if size < 65_536:
        return bytes((_TEXT, 126)) + size.to_bytes(2)
    return bytes((_TEXT, 127)) + size.to_bytes(8)


class DirectWire:
    """Writes to the transport of a FeedProtocol.

    It is ready where the kernel has taken all that was written, and nobody has closed.
    """

    __slots__ = ("_conn", "_on_ready", "_protocol", "_transport", "is_ready")

    def __init__(self, protocol: FeedProtocol, on_ready: Callable[[], None]) -> None:
        self.is_ready = protocol.writable.is_set()
        self._protocol = protocol
        self._conn = protocol.conn
        self._transport = protocol.transport
        self._on_ready = on_ready

    def resume(self) -> None:
        """Be ready again, unless it is over."""
        if not self._protocol.close_sent and not self._protocol.disconnected:
            self.is_ready = True
            self._on_ready()

    def send(self, frame: Frame) -> None:
        """Write a text frame, put into its few bytes here: websockets makes objects of each."""
        if self._conn.state is not State.OPEN:  # the client has just closed
            return
        if len(frame) == 1:
            self._transport.write(_text_head(len(frame[0])) + frame[0])
        else:
            # As they are: many clients who are slow hold the same rows.
            self._transport.writelines((_text_head(sum(map(len, frame))), *frame))

    def close(self, code: int, reason: str) -> None:
        """Close."""
        self.is_ready = False
        self._protocol.end(code, reason)


def open_wire(scope: MutableMapping[str, Any], send: Send, on_ready: Callable[[], None]) -> Wire:
    """Return the best wire that a connection has."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    if isinstance(protocol, FeedProtocol):
        return protocol.open_wire(on_ready)
    return AsgiWire(send, on_ready)
