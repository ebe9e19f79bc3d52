"""The simulator's disk: what a decider's index keeps, in memory."""

from collections.abc import Iterable, Mapping


class DictStore:
    """An index in memory alone."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}
        self.get = self._kept.get

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of keys, None where one has none."""
        return [self._kept.get(key) for key in keys]

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Yield the keys that begin with a prefix, and their values."""
        return sorted(one for one in self._kept.items() if one[0].startswith(prefix))

    def write(self, puts: Mapping[bytes, bytes]) -> None:
        """Put values."""
        self._kept.update(puts)

    def forget(self, prefix: bytes) -> None:
        """Delete the keys that begin with a prefix."""
        for key in [one for one in self._kept if one.startswith(prefix)]:
            del self._kept[key]
