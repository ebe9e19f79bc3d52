"""The command that runs a decider."""

from pathlib import Path

from infra.errors import SettingsError
from infra.settings import load_settings


def run_decider(home: Path | None, metrics_port: int | None, metrics_host: str) -> int:
    """Decide until SIGTERM or SIGINT, then hand over; return the exit status."""
    from infra.telemetry import start_logging
    from streams.deciding.running import decide_until_told

    settings = load_settings(home)
    if settings.log_url.scheme != "kafka":
        expected = "kafka://HOST:PORT[,HOST:PORT...]/NAMESPACE: in Postgres, who asks decides"
        raise SettingsError("log_url", str(settings.log_url), expected)
    start_logging(level=settings.log_level)
    decide_until_told(settings.log_url.text, settings.home, metrics_port, metrics_host)
    return 0
