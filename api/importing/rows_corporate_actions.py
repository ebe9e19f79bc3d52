"""Rows of corporate actions."""

from typing import Any, Literal

from msgspec import Struct

from api.importing import cells
from api.importing.lines import Fact
from api.importing.reading import Reading, assumed_instrument, needed
from domain.commands import (
    AnnounceCorporateAction,
    CancelCorporateAction,
    CorrectCorporateAction,
    DefineInstrument,
)
from domain.errors import InvalidValue
from domain.events import CorporateActionKind, CorporateActionOption
from domain.times import start_of_day


class ActionRow(Struct, kw_only=True, gc=False):
    """One option of a corporate action, or a corporate action that has but one."""

    instrument: cells.Name
    action_id: cells.Id
    kind: CorporateActionKind | None = None
    ex_date: cells.Date | None = None
    record_date: cells.Date | None = None
    pay_date: cells.Date | None = None
    ratio_new: cells.Positive | None = None
    ratio_old: cells.Positive | None = None
    amount: cells.Number | None = None
    currency: cells.Currency | None = None
    new_instrument: cells.Name | None = None
    cost_fraction: cells.Fraction | None = None
    option: cells.Name = "default"
    action: Literal["announce", "correct", "cancel"] = "announce"
    ref_action_id: cells.Id | None = None


def check_option(row: ActionRow) -> None:
    """Raise InvalidValue unless an option is whole."""
    if row.amount is not None and row.currency is None:
        raise InvalidValue("currency", "", "the currency of the amount")
    if (row.ratio_new is None) != (row.ratio_old is None):
        missing = "ratio_new" if row.ratio_new is None else "ratio_old"
        raise InvalidValue(missing, "", "both parts of the ratio, new for old")


def corporate_action(reading: Reading, rows: list[ActionRow], line: int) -> Fact:
    """Announce, correct or cancel an action: a row for each of its options.

    It is placed at the start of its ex-date in the instrument's zone, since no row tells when it
    was announced.
    """
    row = rows[0]
    ex_date = needed(row.ex_date, "ex_date", "a date")
    zone_name = reading.options.zone_of("instrument", row.instrument) or "UTC"
    command = _action_command(row, rows)
    return reading.fact(
        line,
        row.instrument,
        start_of_day(ex_date, zone_name),
        command,
        defines=_defined_by(rows),
    )


def _action_command(
    row: ActionRow, rows: list[ActionRow]
) -> AnnounceCorporateAction | CorrectCorporateAction | CancelCorporateAction:
    if row.action == "announce":
        if row.ref_action_id is not None:
            raise InvalidValue("ref_action_id", row.ref_action_id, "none beside action announce")
        return AnnounceCorporateAction(**_action_fields(row, rows))
    ref_id = needed(row.ref_action_id, "ref_action_id", f"what to {row.action}")
    if row.action == "correct":
        return CorrectCorporateAction(**_action_fields(row, rows), ref_action_id=ref_id)
    return CancelCorporateAction(action_id=row.action_id, ref_action_id=ref_id)


def _action_fields(row: ActionRow, rows: list[ActionRow]) -> dict[str, Any]:
    names = [leg.option for leg in rows]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InvalidValue("option", repeated, "another option in each row of one action")
    return {
        "action_id": row.action_id,
        "kind": needed(row.kind, "kind", "a kind of corporate action"),
        "ex_date": row.ex_date,
        "record_date": row.record_date,
        "pay_date": row.pay_date,
        "options": tuple(map(_option, rows)),
    }


def _option(row: ActionRow) -> CorporateActionOption:
    return CorporateActionOption(
        option=row.option,
        ratio_new=row.ratio_new,
        ratio_old=row.ratio_old,
        amount=row.amount,
        currency=row.currency,
        new_instrument=row.new_instrument,
        cost_fraction=row.cost_fraction,
    )


def _defined_by(rows: list[ActionRow]) -> tuple[tuple[str, DefineInstrument], ...]:
    named: dict[str, str | None] = {}
    for name, currency in (
        *((row.instrument, row.currency) for row in rows),
        *((row.new_instrument, row.currency) for row in rows),
    ):
        if name is not None:
            named[name] = currency or named.get(name)
    return tuple(
        definition
        for name, currency in named.items()
        for definition in assumed_instrument(name, currency)
    )
