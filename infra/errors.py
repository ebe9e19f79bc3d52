"""The one family of errors that this layer raises."""


class InfraError(Exception):
    """Something outside the ledger's own code is missing, wrong or in the way."""


class SettingsError(InfraError):
    """A setting has a value that cannot be used. Passwords in the value are hidden already."""

    def __init__(self, field: str, value: str, expected: str) -> None:
        super().__init__(field, value, expected)
        self.field = field
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.field} is {self.value!r}; expected {self.expected}"


class ServerUnavailable(InfraError):  # noqa: N818 - a state of the world more than a mistake
    """A server that is needed cannot be used now. The command line answers with exit status 3."""

    def __init__(self, part: str, reason: str, hint: str) -> None:
        super().__init__(part, reason, hint)
        self.part = part
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.part} is not available: {self.reason} ({self.hint})"


class MigrationRefused(InfraError):  # noqa: N818 - nothing was tried, so nothing went wrong
    """The tables in the database and the migrations in the code do not belong together."""
