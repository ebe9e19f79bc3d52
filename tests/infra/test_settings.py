"""Settings from arguments, environment and files; what is refused; what is never printed."""

from pathlib import Path

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from infra.errors import SettingsError
from infra.settings import KAFKA_OPTIONS, ServerUrl, Settings, load_settings, redacted
from streams.kafka_client import Security, parse_place


def load(folder: Path, home: str | None = None, **environ: str) -> Settings:
    return load_settings(home, environ=environ, folder=folder)


def test_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings(
        home=platformdirs.user_data_path("daybook", appauthor=False),
        log_url=ServerUrl("embedded:"),
        store_url=ServerUrl("embedded:"),
        cache_url=ServerUrl("memory:"),
    )


def test_argument_before_environment_before_file(tmp_path: Path) -> None:
    (tmp_path / "daybook.toml").write_text(
        'home = "from-file"\nlog_url = "kafka://a:1,b:2/file"\nstore_url = "postgresql:///file"\n'
    )
    told = {"DAYBOOK_HOME": str(tmp_path / "env"), "DAYBOOK_LOG_URL": "postgresql:///env"}
    assert load(tmp_path).home == tmp_path / "from-file"
    assert load(tmp_path, **told).home == tmp_path / "env"
    settings = load(tmp_path, "argument", **told)
    assert settings.home == tmp_path / "argument"
    assert settings.log_url.text == "postgresql:///env"
    assert settings.store_url.text == "postgresql:///file"
    assert settings.log_url.scheme == "postgresql"


def test_the_file_in_the_home_is_read_where_the_folder_has_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "daybook.toml").write_text('cache_url = "redis://:secret@localhost:6379/1"\n')
    assert load(tmp_path, str(home)).cache_url.text == "redis://:secret@localhost:6379/1"
    (tmp_path / "daybook.toml").write_text('log_url = "embedded:"\n')
    assert load(tmp_path, str(home)).cache_url.text == "memory:"


def test_the_level_of_the_log_is_told_like_the_rest(tmp_path: Path) -> None:
    assert load(tmp_path).log_level == "info"
    (tmp_path / "daybook.toml").write_text('log_level = "warning"\n')
    assert load(tmp_path).log_level == "warning"
    assert load(tmp_path, DAYBOOK_LOG_LEVEL="debug").log_level == "debug"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, DAYBOOK_LOG_URL="").log_url.text == "embedded:"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DAYBOOK_LOG_URL", "mysql://localhost/x", "embedded: or postgresql://"),
        ("DAYBOOK_LOG_URL", "embedded", "embedded: or postgresql://"),
        ("DAYBOOK_LOG_URL", "memory:", "kafka://HOST:PORT"),
        ("DAYBOOK_LOG_URL", "kafka://a:9092", "/NAMESPACE"),
        ("DAYBOOK_LOG_URL", "kafka://a/books", "HOST:PORT"),
        ("DAYBOOK_LOG_URL", "kafka://a:9092,b:70000/books", "HOST:PORT"),
        ("DAYBOOK_STORE_URL", "kafka://a:9092/books", "embedded: or postgresql://"),
        ("DAYBOOK_STORE_URL", "postgresql:/x", "postgresql://"),
        ("DAYBOOK_CACHE_URL", "redis://", "redis://"),
        ("DAYBOOK_CACHE_URL", "redis://h:port", "redis://"),
        ("DAYBOOK_CACHE_URL", "redis://h/books", "redis://"),
        ("DAYBOOK_HOME", "nul\0here", "usable path"),
        ("DAYBOOK_LOG_LEVEL", "DEBUG", "debug or info or warning or error"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{name: value})
    assert (caught.value.field, caught.value.value) == (name, value)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("log_ulr = 'embedded:'", "log_ulr in"),
        ("log_url = 7", "log_url in"),
        ("log_url = 'mysql:'", "log_url in"),
        ("log_url", "daybook.toml"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "daybook.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"daybook\.toml") as caught:
        load(tmp_path)
    assert caught.value.field.startswith(field)


def test_the_file_in_the_home_cannot_say_where_the_home_is(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "daybook.toml").write_text('home = "/elsewhere"')
    with pytest.raises(SettingsError, match="found by way of the home"):
        load(tmp_path, "home")


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--home"):
        load(tmp_path, "file")


@given(st.text("abc:/@?#&=' %", max_size=12))
def test_no_password_is_printed(noise: str) -> None:
    password = f"S3{noise}cret"
    for url in (
        f"postgresql://me:{password}@host/db",
        f"redis://:{password}@host",
        f"me:{password}@host/db",
        f"postgresql:me:{password}@host",
    ):
        assert "cret" not in redacted(url)
        assert "S3" not in redacted(url)


@pytest.mark.parametrize("key", ["password", "PASSWORD", "sslpassword", "passwd"])
def test_no_password_given_as_an_option_is_printed(key: str) -> None:
    shown = redacted(f"postgresql://host/db?a=1&{key}=S3cret&b=2")
    assert shown == f"postgresql://host/db?a=1&{key}=***&b=2"
    assert redacted(f"host=h {key}='S3 cret' dbname=d") == f"host=h {key}=*** dbname=d"


def test_no_password_in_any_way_settings_are_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, DAYBOOK_STORE_URL="postgresql://me:S3cret@host/db")
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(settings)
    console.file.close()
    for shown in (repr(settings), str(settings), f"{settings.store_url}", console.export_text()):
        assert "S3cret" not in shown
        assert "host/db" in shown


def test_no_password_in_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, DAYBOOK_STORE_URL="mysql://me:S3cret@host/db")
    assert "S3cret" not in f"{caught.value} {caught.value!r}"


def test_options_of_kafka_are_settings_like_others(tmp_path: Path) -> None:
    (tmp_path / "daybook.toml").write_text(
        'log_url = "kafka://h:1/ns?sasl_username=ann"\n'
        'kafka_sasl_username = "bob"\nkafka_sasl_password = "of the file"\n'
        'kafka_ssl_cafile = "ca.pem"\n'
    )
    environ = {"DAYBOOK_KAFKA_SASL_PASSWORD": "p&w%+/#1", "DAYBOOK_HOME": str(tmp_path / "home")}
    url = load_settings(environ=environ, folder=tmp_path).log_url
    security = parse_place(url.text, environ={}).security
    assert security.sasl_username == "ann"
    assert security.sasl_password == "p&w%+/#1"
    assert security.ssl_cafile == str(tmp_path / "ca.pem")
    assert "p&w" not in str(url)
    assert "p%26w" not in str(url)


def test_options_of_kafka_are_those_that_its_client_takes() -> None:
    assert Security.__struct_fields__ == KAFKA_OPTIONS


def test_a_password_that_is_no_string_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "daybook.toml").write_text("kafka_sasl_password = 12345\n")
    with pytest.raises(SettingsError, match="a string in quotes") as refused:
        load_settings(environ={}, folder=tmp_path)
    assert "12345" not in str(refused.value)
