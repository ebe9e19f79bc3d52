"""The command that moves the log to other servers."""

import sys
from pathlib import Path

from api.cli.progress import counting
from api.wiring import running
from domain.errors import InvalidValue
from infra.settings import load_settings, redacted
from streams.log import TOPICS
from streams.migrate_log import migrate_log


def run_migrate_log(home: Path | None, url: str) -> int:
    """Copy the log to Kafka and prove both equal; return 1 when the log has grown meanwhile."""
    if not url.startswith("kafka://"):
        raise InvalidValue("TO_URL", redacted(url), "kafka://HOST:PORT[,HOST:PORT...]/NAMESPACE")
    with running(load_settings(home)) as parts:
        log = parts.log
        total = sum(sum(log.heads(topic)) for topic in TOPICS)
        with counting("records proven", total) as progress:
            done = migrate_log(log, url, progress=progress)
    for topic, heads in done.heads.items():
        told = " ".join(f"{n}:{head - 1}" for n, head in enumerate(heads) if head > 1)
        sys.stdout.write(f"{topic}: {sum(heads):,} records, the last at {told or 'offset 0'}\n")
    sys.stdout.write(
        f"log {done.log_id}: {done.records:,} records in both, {done.copied:,} of them copied now\n"
        f"sha256 {done.digest}\n"
    )
    if done.grown:
        sys.stderr.write(
            f"daybook: {done.grown:,} records came meanwhile and are not copied:"
            " stop whoever writes, and run this again\n"
        )
    return 1 if done.grown else 0
