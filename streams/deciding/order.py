"""In which order commands may be asked when several owners decide them: in waves.

Commands of one stream go to one owner, who keeps their order. Across streams only one thing
matters: what defines an instrument, and what is booked in it. A wave is asked when the one before
is answered; most books of commands are one wave of openings and definitions, and one of the rest.
"""

from collections.abc import Callable, Iterable, Sequence

from domain.commands import Request, Topic, topic_of
from domain.decisions import EntityKey

KeysOf = Callable[[Request], Iterable[EntityKey]]


def waves(requests: Sequence[Request], keys_of: KeysOf) -> list[list[int]]:
    """Return the indexes of requests by wave, in their order within each."""
    of_stream: dict[tuple[Topic, str], int] = {}
    defined: dict[str, int] = {}
    booked: dict[str, int] = {}
    found: list[list[int]] = []
    for index, request in enumerate(requests):
        topic = topic_of(request.command)
        stream = (topic, request.key)
        wave = of_stream.get(stream, 0)
        if topic == "reference":
            wave = max(wave, booked.get(request.key, -1) + 1)
            defined[request.key] = wave
        elif topic == "events":
            names = [name for kind, name in keys_of(request) if kind == "instrument" and name]
            for name in names:
                wave = max(wave, defined.get(name, -1) + 1)
            for name in names:
                booked[name] = max(wave, booked.get(name, 0))
        of_stream[stream] = wave
        while len(found) <= wave:
            found.append([])
        found[wave].append(index)
    return found
