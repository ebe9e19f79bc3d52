"""The one family of errors that bad input raises inside the ledger."""


class InvalidValue(ValueError):  # noqa: N818 - a refused value, named by what it is
    """Say that a value was refused: which field, what was given, what was expected."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = shorten(value)
        self.expected = expected
        super().__init__(f"{field}: {self.value!r} is not valid; expected {expected}")


def shorten(value: object, limit: int = 120) -> str:
    """Return the value as text a person can read in a message, cut in the middle when long."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}...({len(text)} characters)...{text[-8:]}"
