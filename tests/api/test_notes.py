"""Notes: what was said is kept beside the log, proved by it, and forgotten without a trace."""

from api.wiring import running
from infra.settings import load_settings
from streams.vault import digest_of
from tests.api.command_line import CommandLine

CASH = """account,cash_id,kind,amount,currency,event_time,note
A1,C1,deposit,10,USD,2024-01-02T14:30:00Z,for Anna Müller
A1,C2,deposit,20,USD,2024-01-02T14:31:00Z,for Bert
"""


def test_a_note_is_erased_and_no_proof_breaks(daybook: CommandLine) -> None:
    daybook.imported("cash.csv", CASH)
    told = [one for one in daybook.good("log").lines if one["type"] == "CashMoved"]
    notes = {one["data"]["cash_id"]: one["data"]["note_id"] for one in told}
    digests = {one["data"]["note_id"]: one["data"]["note_digest"] for one in told}
    assert "Müller" not in daybook.good("log").out

    settings = load_settings(daybook.home, environ=daybook.environment, folder=daybook.folder)
    with running(settings) as parts:
        read = parts.models.connection.execute
        kept = read("SELECT note_id, salt, note FROM vault").fetchall()
        assert {note_id: digest_of(salt, note) for note_id, salt, note in kept} == digests
        assert parts.vault.read(notes["C1"]) == "for Anna Müller"
        assert parts.vault.erase(notes["C1"])
        assert parts.vault.read(notes["C1"]) is None
        assert parts.vault.read(notes["C2"]) == "for Bert"
        assert not parts.vault.erase(notes["C1"])  # there is nothing left to be forgotten
        assert not parts.vault.erase("nobody")
        left = read(
            "SELECT salt, note, digest FROM vault WHERE note_id = %s", (notes["C1"],)
        ).fetchall()
    assert left == [(None, None, digests[notes["C1"]])]
    assert "the books equal the log" in daybook.good("verify").out
    # Told again, it is known already, and stays forgotten.
    assert daybook.imported("again.csv", CASH)["duplicate"] == 2
    with running(settings) as parts:
        assert parts.vault.read(notes["C1"]) is None
