"""Settings from the environment and `daybook.toml`, checked before anything uses them.

Nothing here imports a validation framework: importing one takes longer than a whole query may.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from infra.errors import SettingsError

FILE_NAME: Final = "daybook.toml"
PREFIX: Final = "DAYBOOK_"

# On the safe side: whatever stands between the first colon after the scheme and the last "@".
_USER_PASSWORD = re.compile(r"(?s)^((?:[^:/]*://)?[^:@/]*):.*@")
_NAMED_PASSWORD = re.compile(r"(?i)((?:password|passwd|pwd)\s*=\s*)(?:'[^']*'|[^&\s]*)")
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

KAFKA_OPTIONS: Final = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
)
"""What a log's URL in Kafka may say after the namespace; each is also a setting, `kafka_...`."""
KAFKA_PREFIX: Final = "kafka_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

EMBEDDED: Final = "embedded:"
MEMORY: Final = "memory:"
_POSTGRES_FORM: Final = "postgresql://[USER[:PASSWORD]@][HOST[:PORT]]/DATABASE"
_KAFKA_FORM: Final = "kafka://HOST:PORT[,HOST:PORT...]/NAMESPACE[?OPTION=VALUE&...]"
_REDIS_FORM: Final = "redis://[:PASSWORD@]HOST[:PORT][/NUMBER]"


def redacted(url: str) -> str:
    """Hide the passwords of a URL, well-formed or not."""
    # Named ones first: one with an "@" in it would be taken for a user's, and half of it shown.
    return _USER_PASSWORD.sub(r"\1:***@", _NAMED_PASSWORD.sub(r"\1***", url))


class ServerUrl(msgspec.Struct, frozen=True):
    """Where a part of the ledger is. Only `text` has the password; printing hides it."""

    text: str

    @property
    def scheme(self) -> str:
        """The part before the first colon: which kind of server this is."""
        return self.text.partition(":")[0]

    def __repr__(self) -> str:
        return f"ServerUrl({redacted(self.text)!r})"

    def __str__(self) -> str:
        return redacted(self.text)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("text", redacted(self.text))]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs from one place to run to the next."""

    home: Path
    log_url: ServerUrl
    store_url: ServerUrl
    cache_url: ServerUrl
    log_level: str = "info"


_NAMES: Final = (*Settings.__struct_fields__, *(KAFKA_PREFIX + one for one in KAFKA_OPTIONS))


class _Told(msgspec.Struct, frozen=True):
    """A value as somebody wrote it, and how they know it: the field an error has to name."""

    value: str
    field: str
    folder: Path


def load_settings(
    home: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read the settings: argument, environment, `daybook.toml`, default, the first that has one.

    The file is looked for in `folder` (default: the current one), then in the home; an empty
    value counts as not set. A relative home starts at `folder`. Raises SettingsError naming the
    field, its value and what was expected.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    told = _from_environment(environ, folder)
    if home is not None:
        told["home"] = _Told(str(home), "--home", folder)
    here = folder / FILE_NAME
    if here.is_file():
        told = _from_file(here) | told
    place = _home(told.get("home"))
    if not here.is_file() and (place / FILE_NAME).is_file():
        told = _from_home_file(place / FILE_NAME) | told
    return Settings(
        home=place,
        log_url=_with_options(
            _url(told, "log_url", EMBEDDED, (EMBEDDED, _POSTGRES_FORM, _KAFKA_FORM)), told
        ),
        store_url=_url(told, "store_url", EMBEDDED, (EMBEDDED, _POSTGRES_FORM)),
        cache_url=_url(told, "cache_url", MEMORY, (MEMORY, _REDIS_FORM)),
        log_level=_log_level(told.get("log_level")),
    )


def _from_environment(environ: Mapping[str, str], folder: Path) -> dict[str, _Told]:
    fields = {name: PREFIX + name.upper() for name in _NAMES}
    return {
        name: _Told(environ[field], field, folder)
        for name, field in fields.items()
        if environ.get(field)
    }


def _from_home_file(path: Path) -> dict[str, _Told]:
    told = _from_file(path)
    if (home := told.get("home")) is not None:
        raise SettingsError(home.field, home.value, "none: that file is found by way of the home")
    return told


def _from_file(path: Path) -> dict[str, _Told]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(FILE_NAME, str(path), f"a readable TOML file: {error}") from error
    for name, value in values.items():
        field = f"{name} in {path}"
        shown = "***" if "password" in name else redacted(str(value))
        if name not in _NAMES:
            raise SettingsError(field, shown, f"no such name, but one of {', '.join(_NAMES)}")
        if not isinstance(value, str):
            raise SettingsError(field, shown, "a string in quotes")
    return {
        name: _Told(value, f"{name} in {path}", path.parent)
        for name, value in values.items()
        if value
    }


def _home(told: _Told | None) -> Path:
    if told is None:
        # Imported here because most runs are told their home, and importing it takes 25 ms.
        import platformdirs

        return platformdirs.user_data_path("daybook", appauthor=False)
    try:
        path = (told.folder / Path(told.value).expanduser()).resolve()
        usable = path.is_dir() or not path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(told.field, told.value, f"a usable path: {error}") from error
    if not usable:
        raise SettingsError(told.field, told.value, "a folder, or a path where one can be made")
    return path


def _log_level(told: _Told | None) -> str:
    if told is None:
        return "info"
    if told.value not in LOG_LEVELS:
        raise SettingsError(told.field, told.value, " or ".join(LOG_LEVELS))
    return told.value


def _url(
    told: Mapping[str, _Told], name: str, default: str, expected: tuple[str, ...]
) -> ServerUrl:
    text = told[name].value if name in told else default
    url = ServerUrl(text)
    well_formed = {
        EMBEDDED: text == EMBEDDED,
        MEMORY: text == MEMORY,
        _POSTGRES_FORM: _is_postgres(text),
        _KAFKA_FORM: _is_kafka(text),
        _REDIS_FORM: _is_redis(text),
    }
    if not any(well_formed[form] for form in expected):
        raise SettingsError(told[name].field, str(url), " or ".join(expected))
    return url


def _with_options(url: ServerUrl, told: Mapping[str, _Told]) -> ServerUrl:
    """Return the URL of a log in Kafka with the options told elsewhere that it does not tell."""
    if url.scheme != "kafka":
        return url
    _, _, query = url.text.partition("?")
    named = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    more = {}
    for name in KAFKA_OPTIONS:
        one = told.get(KAFKA_PREFIX + name)
        if one is not None and name not in named:
            # A path in a file is meant from where that file is.
            more[name] = str(one.folder / one.value) if name.endswith("file") else one.value
    if not more:
        return url
    return ServerUrl(f"{url.text}{'&' if '?' in url.text else '?'}{urlencode(more)}")


def _is_postgres(text: str) -> bool:
    # The rest of the grammar (several hosts, options) is libpq's own to judge, on connecting.
    return re.fullmatch(r"postgres(?:ql)?://[^\s\0]*", text) is not None


def _is_kafka(text: str) -> bool:
    # Which options there are is for the log's own client to judge, on connecting.
    place, _, options = text.removeprefix("kafka://").partition("?")
    hosts, slash, namespace = place.partition("/")
    if re.search(r"[\s\0]", options):
        return False
    if not text.startswith("kafka://") or not slash or not _NAMESPACE.fullmatch(namespace):
        return False
    return all(
        (match := _HOST_PORT.fullmatch(host)) and 0 < int(match[1]) < 65536
        for host in hosts.split(",")
    )


def _is_redis(text: str) -> bool:
    if not text.startswith(("redis://", "rediss://")):
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    number = parts.path.removeprefix("/")
    return bool(parts.hostname) and port != 0 and (not number or number.isdecimal())
