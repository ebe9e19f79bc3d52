"""Finishes transfers that were left on their way, where the log is in Kafka.

Who sends one carries it to its end. A process that dies in between, or a receiver whose partition
stands still, leaves it; embedded, the follower finishes it, before it projects. Here it is a thread
of its own: it may have to wait for a decider, and whoever waits for a position must not.
"""

import logging
import threading
from typing import Final

import psycopg

from api.front import finish_transfers
from api.wiring import Parts, running
from infra.errors import InfraError
from infra.settings import Settings
from streams.log import LogError

_log = logging.getLogger(__name__)
EVERY_S: Final = 2.0
AGAIN_S: Final = 10.0
"""As long where one could not be finished, or something failed."""


class Settling:
    """Carries transfers to their end, time and again, until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        self._turn = threading.Lock()
        self._parts: Parts | None = None
        self._thread = threading.Thread(target=self._run, name="transfers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop; neither a decider nor a broker is waited for any more."""
        self._stopped.set()
        with self._turn:
            if self._parts is not None:
                self._parts.ledger.close()
                self._parts.log.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        self._stopped.wait(EVERY_S)  # a server that starts has more urgent things to do
        while not self._stopped.is_set():
            try:
                self._settle()
            # Nothing narrower, as in the follower: a thread that ended would be missed by nobody.
            except Exception as error:
                if self._stopped.is_set():
                    return
                foreseen = isinstance(error, InfraError | LogError | psycopg.Error)
                told = None if foreseen else error
                _log.warning("transfers are left on their way: %s", error, exc_info=told)
                self._stopped.wait(AGAIN_S)

    def _settle(self) -> None:
        with running(self._settings) as parts:
            with self._turn:
                # Made before it may be closed from elsewhere.
                assert parts.ledger is not None
                self._parts = parts
            while not self._stopped.is_set():
                is_done = finish_transfers(parts)
                self._stopped.wait(EVERY_S if is_done else AGAIN_S)
