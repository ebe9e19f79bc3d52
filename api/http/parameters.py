"""The parameters of the queries: what each means, and how it is read."""

from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request

from api.http.operation import Parameter
from api.questions import as_of_from
from domain.errors import InvalidValue
from domain.identifiers import MAX_ID_LENGTH, check_id
from streams.log import TopicPartition
from streams.past import AsOf
from streams.positions import parse_vector

DEFAULT_LIMIT: Final = 1_000
MOST_ROWS: Final = 10_000
LONGEST: Final = 4_096
_TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": LONGEST}
_ID: Final[dict[str, Any]] = {**_TEXT, "maxLength": MAX_ID_LENGTH}
_TIME: Final[dict[str, Any]] = {
    "type": "string",
    "anyOf": [{"format": "date"}, {"format": "date-time"}],
}
_POSITION: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": r"^((prices|reference|events)/)?\d{1,4}:\d{1,18}"
    r"(,((prices|reference|events)/)?\d{1,4}:\d{1,18})*$",
}

AS_OF: Final = Parameter(
    "as_of", "What was true then: a date (business dates) or an instant.", _TIME, "2024-01-04"
)
KNOWN_AT: Final = Parameter(
    "known_at",
    "What the ledger knew then: an instant, a date, or positions such as 0:12,3:55.",
    _TEXT,
    "2024-01-05T00:00:00Z",
)
MIN_POSITION: Final = Parameter(
    "min_position",
    "Wait, at most five seconds, until the read model has these positions.",
    _POSITION,
    "0:0",
)
FROM: Final = Parameter("from", "Only from this date or instant on.", _TIME, "2024-01-01")
TO: Final = Parameter(
    "to", "Only up to this date or instant, itself included.", _TIME, "2024-12-31"
)
METHOD: Final = Parameter(
    "method",
    "What if lots had been taken so: fifo, lifo, hifo, average or specific.",
    {"type": "string", "enum": ["fifo", "lifo", "hifo", "average", "specific"]},
    "lifo",
)
OPEN: Final = Parameter(
    "open",
    "`true` leaves out what is closed.",
    {"type": "string", "enum": ["true", "false"]},
    "true",
)
INSTRUMENT: Final = Parameter("instrument", "One instrument.", _ID, "AAPL")
ACCOUNT: Final = Parameter("account", "One account.", _ID, "A1")
NEWEST: Final = Parameter(
    "newest",
    "`true`: the newest events first, of the account that is asked for.",
    {"type": "string", "enum": ["true", "false"]},
    "true",
)
ORDER: Final = Parameter("order", "One order, by its id.", _ID, "O1")
DEAL: Final = Parameter("deal", "One deal, by its id.", _ID, "D1")
CURRENCY: Final = Parameter("currency", "One currency.", _ID, "USD")
CURSOR: Final = Parameter("cursor", "The `next` of the page before.", _TEXT, "")
LIMIT: Final = Parameter(
    "limit",
    f"How many rows at most. JSON: {DEFAULT_LIMIT} when absent; other formats: all.",
    {"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
    "100",
)
FORMAT: Final = Parameter(
    "format",
    "The format, before what `Accept` says.",
    {"type": "string", "enum": ["json", "csv", "arrow", "parquet"]},
    "json",
)
TOPIC: Final = Parameter(
    "topic",
    "Which log.",
    {"type": "string", "enum": ["events", "prices", "reference"]},
    "events",
)
AFTER: Final = Parameter("after", "Only after these positions.", _POSITION, "0:0")


class Asked(Struct, frozen=True):
    """The query of a request: each parameter at most once, and none that is not known."""

    told: dict[str, str]

    def get(self, parameter: Parameter) -> str | None:
        """Return what was told, None for nothing."""
        return self.told.get(parameter.name)

    def id(self, parameter: Parameter) -> str | None:
        """Return an id; raises InvalidValue."""
        value = self.get(parameter)
        return None if value is None else check_id(value, parameter.name)

    def time(self, parameter: Parameter) -> AsOf:
        """Return a date or an instant; raises InvalidValue, which names the parameter."""
        try:
            return as_of_from(self.get(parameter))
        except InvalidValue as error:
            raise InvalidValue(parameter.name, error.value, error.expected) from None

    def choice(self, parameter: Parameter, default: str) -> str:
        """Return one of the values that there are; raises InvalidValue."""
        value = self.told.get(parameter.name, default)
        allowed = parameter.schema["enum"]
        if value not in allowed:
            raise InvalidValue(parameter.name, value, "one of " + ", ".join(allowed))
        return value

    def limit(self) -> int | None:
        """Return how many rows are asked for at most; raises InvalidValue."""
        value = self.get(LIMIT)
        if value is None:
            return None
        if not (value.isascii() and value.isdecimal() and 0 < int(value[:9]) <= MOST_ROWS):
            raise InvalidValue("limit", value, f"a number from 1 to {MOST_ROWS}")
        return int(value)

    def places(self, parameter: Parameter, partitions: int) -> dict[TopicPartition, int]:
        """Return positions as offsets by topic and partition; raises InvalidValue."""
        value = self.get(parameter)
        if value is None:
            return {}
        found = {
            (topic, partition): offset
            for topic, places in parse_vector(value, parameter.name).vector.items()
            for partition, offset in places.items()
        }
        if any(place[1] >= partitions or offset >= 2**62 for place, offset in found.items()):
            expected = f"positions in partitions from 0 to {partitions - 1}"
            raise InvalidValue(parameter.name, value, expected)
        return found

    def question(self) -> str:
        """Return the question apart from which page of it is asked for, to tell it from others."""
        aside = (CURSOR.name, LIMIT.name, MIN_POSITION.name, FORMAT.name)
        return repr(sorted((name, value) for name, value in self.told.items() if name not in aside))


def asked(request: Request, parameters: tuple[Parameter, ...]) -> Asked:
    """Return the query of a request; raises InvalidValue for what is unknown, doubled or long."""
    known = {one.name for one in parameters}
    told: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            expected = "one of " + ", ".join(sorted(known)) if known else "no parameters"
            raise InvalidValue(name, value, expected)
        if name in told:
            raise InvalidValue(name, value, "to be told once")
        if len(value) > LONGEST or not value.isprintable():
            raise InvalidValue(name, value, f"at most {LONGEST} characters, none of control")
        told[name] = value
    return Asked(told)
