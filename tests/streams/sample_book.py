"""A book that fills every read model, with facts in and out of order; the same on every run."""

from decimal import Decimal
from random import Random

from domain import commands, events
from domain.commands import Command, Request
from domain.times import Instant, from_ns, to_ns

ACCOUNTS = ("A1", "A2", "A3")
INSTRUMENTS = ("AAPL", "MSFT", "GOOG")
_NOON_NS = to_ns(Instant("2024-01-02T17:00:00.000000000Z"))


def at(second: int) -> Instant:
    return from_ns(_NOON_NS + second * 1_000_000_000)


def sample_requests(size: int = 300, seed: int = 1) -> list[Request]:
    """Openings and definitions, then `size` commands of every kind."""
    told = [*_definitions(), *_rare()]
    random = Random(seed)
    told += [_any(random, number) for number in range(size)]
    return [
        Request(command_id=f"r{number}", key=key, event_time=at(second), command=command)
        for number, (key, second, command) in enumerate(told)
    ]


Told = tuple[str, int, Command]


def _definitions() -> list[Told]:
    opened = [
        (account, 0, commands.OpenAccount(base_currency="USD", method=method))
        for account, method in zip(ACCOUNTS, ("fifo", "average", "lifo"), strict=True)
    ]
    defined = [(name, 0, commands.DefineInstrument(symbol=name)) for name in INSTRUMENTS]
    split = commands.AnnounceCorporateAction(
        action_id="S1",
        kind="split",
        ex_date="2024-02-01",
        options=(events.CorporateActionOption(ratio_new=Decimal(2), ratio_old=Decimal(1)),),
    )
    return [
        *opened,
        *defined,
        ("AAPL", 0, commands.IdentifyInstrument(scheme="ISIN", value="US0378331005")),
        ("P1", 0, commands.DefinePortfolio(parent="TOP")),
        ("AAPL", 0, split),
        ("AAPL", 0, commands.CancelCorporateAction(action_id="S2", ref_action_id="S1")),
    ]


def _rare() -> list[Told]:
    fee = events.Fee(kind="commission", amount=Decimal("1.25"), currency="USD")
    waiting = commands.RecordFees(fee_id="w", deal_id="never", fees=(fee,))
    lot = events.LotTold(lot="L1", quantity=Decimal(5), opened_at=at(-900), cost=Decimal("500.5"))
    leg = events.UnitLeg(instrument="GOOG", quantity=Decimal(5), currency="USD", lots=(lot,))
    opening = commands.MovePosition(movement_id="open", reason="opening", legs=(leg,))
    price = commands.RecordPrice(price=Decimal("185.50"), currency="USD")
    return [("A1", 1, waiting), ("A1", 1, opening), ("AAPL", 5, price)]


def _any(random: Random, number: int) -> Told:
    account, second = random.choice(ACCOUNTS), number + random.choice((0, 0, 0, 0, -20))
    return account, second, _command(random, number)


def _command(random: Random, number: int) -> Command:
    some_deal = f"d{random.randrange(number + 1)}"
    match random.randrange(12):
        case 0:
            return commands.BustDeal(deal_id=f"b{number}", ref_deal_id=some_deal)
        case 1:
            return _deal(random, commands.CorrectDeal, f"c{number}", ref_deal_id=some_deal)
        case 2:
            return commands.PlaceOrder(
                order_id=f"o{number % 20}",
                instrument="AAPL",
                side="buy",
                quantity=Decimal(100),
                order_type="market",
            )
        case 3:
            return commands.MoveCash(
                cash_id=f"k{number}",
                kind="dividend",
                amount=Decimal(random.randrange(1, 999)).scaleb(-2),
                currency="USD",
                relates_to=events.Relation(deal_id=some_deal),
            )
        case 4:
            return commands.ReverseCash(
                cash_id=f"x{number}", ref_cash_id=f"k{random.randrange(number + 1)}"
            )
        case 5:
            fee = events.Fee(kind="tax", amount=Decimal("0.75"), currency="USD")
            return commands.RecordFees(fee_id=f"f{number}", deal_id=some_deal, fees=(fee,))
        case _:
            return _deal(random, commands.RecordDeal, f"d{number}")


def _deal(
    random: Random, kind: type[commands.RecordDeal], deal_id: str, **more: str
) -> commands.RecordDeal:
    return kind(
        deal_id=deal_id,
        instrument=random.choice(INSTRUMENTS),
        side=random.choice(("buy", "buy", "sell")),
        quantity=Decimal(random.randrange(1, 40)),
        price=Decimal(random.randrange(9000, 20000)).scaleb(-2),
        currency="USD",
        settlement_date="2024-01-04",
        order_id=random.choice((None, None, f"o{random.randrange(20)}")),
        tags=random.choice(((), ('a "b" \\ c', "d,{e}"))),
        **more,
    )
