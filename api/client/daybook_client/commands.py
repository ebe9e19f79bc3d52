"""The commands, typed: each is one call, for the synchronous and the asynchronous client alike."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from .requests import Amount, Call, Time, encoded, new_key, now, part, write

One = TypeVar("One")
Many = TypeVar("Many")


class Commands(ABC, Generic[One, Many]):
    """What can be told to the ledger.

    Every command has a key: told as `key`, or made here. Sent again with the same key, which this
    client does by itself after a broken connection, it is never booked twice. `event_time` is now
    where it is not told. Further fields of a command are told by name.
    """

    @abstractmethod
    def _one(self, call: Call) -> One: ...

    @abstractmethod
    def _many(self, call: Call) -> Many: ...

    def open_account(
        self,
        account: str,
        *,
        base_currency: str | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Open an account, or change its settings; what is not told stays as it is.

        A new one has USD as its base currency where none is told.
        """
        return self._write("/v1/accounts", key, account, more | {"base_currency": base_currency})

    def place_order(
        self,
        account: str,
        *,
        instrument: str,
        side: str,
        quantity: Amount,
        order_type: str = "market",
        limit_price: Amount | None = None,
        order_id: str | None = None,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Place an order; `side` is buy or sell."""
        body = more | {
            "instrument": instrument,
            "side": side,
            "quantity": quantity,
            "order_type": order_type,
            "limit_price": limit_price,
            "order_id": order_id,
        }
        return self._write("/v1/orders", key, account, body, event_time)

    def cancel_order(
        self,
        account: str,
        order_id: str,
        *,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Ask for the cancel of an order."""
        return self._write(f"/v1/orders/{part(order_id)}/cancel", key, account, more, event_time)

    def replace_order(
        self,
        account: str,
        order_id: str,
        *,
        event_time: Time | None = None,
        key: str | None = None,
        **changes: Any,
    ) -> One:
        """Ask for an order with other terms, such as `quantity` or `limit_price`."""
        path = f"/v1/orders/{part(order_id)}/replace"
        return self._write(path, key, account, changes, event_time)

    def record_deal(
        self,
        account: str,
        *,
        instrument: str,
        side: str,
        quantity: Amount,
        currency: str,
        price: Amount | None = None,
        deal_id: str | None = None,
        fees: Sequence[Mapping[str, Any]] | None = None,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Record a deal; fees are `{"kind", "amount", "currency"}`, positive a cost."""
        body = more | {
            "instrument": instrument,
            "side": side,
            "quantity": quantity,
            "currency": currency,
            "price": price,
            "deal_id": deal_id,
            "fees": fees,
        }
        return self._write("/v1/deals", key, account, body, event_time)

    def bust_deal(
        self,
        account: str,
        deal_id: str,
        *,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Record that a deal never was."""
        return self._write(f"/v1/deals/{part(deal_id)}/bust", key, account, more, event_time)

    def correct_deal(
        self,
        account: str,
        ref_deal_id: str,
        *,
        event_time: Time | None = None,
        key: str | None = None,
        **terms: Any,
    ) -> One:
        """Record a deal, told whole, that takes the place of another."""
        path = f"/v1/deals/{part(ref_deal_id)}/correct"
        return self._write(path, key, account, terms, event_time)

    def move_cash(
        self,
        account: str,
        *,
        kind: str,
        amount: Amount,
        currency: str,
        cash_id: str | None = None,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Record that cash moved; into the account is positive."""
        body = more | {"kind": kind, "amount": amount, "currency": currency, "cash_id": cash_id}
        return self._write("/v1/cash", key, account, body, event_time)

    def send_transfer(
        self,
        account: str,
        to_account: str,
        *,
        cash: Sequence[Mapping[str, Any]] = (),
        legs: Sequence[Mapping[str, Any]] = (),
        transfer_id: str | None = None,
        event_time: Time | None = None,
        key: str | None = None,
        **more: Any,
    ) -> One:
        """Send cash or lots to another account."""
        body = more | {
            "to_account": to_account,
            "cash": list(cash) or None,
            "legs": list(legs) or None,
            "transfer_id": transfer_id,
        }
        return self._write("/v1/transfers", key, account, body, event_time)

    def submit(self, command: Mapping[str, Any]) -> One:
        """Submit a command of the shape of `daybook submit`; its `command_id` may be left out."""
        body = {"command_id": new_key(), "event_time": now(), **command}
        return self._one(write("/v1/commands", body, str(body["command_id"])))

    def submit_all(self, commands: Sequence[Mapping[str, Any]]) -> Many:
        """Submit commands one by one, in one request; refusals are among the answers."""
        bodies = [{"command_id": new_key(), "event_time": now(), **one} for one in commands]
        headers = {"Content-Type": "application/json"}
        return self._many(Call("POST", "/v1/commands", {}, headers, encoded(bodies)))

    def _write(
        self,
        path: str,
        key: str | None,
        account: str,
        body: Mapping[str, Any],
        event_time: Time | None = None,
    ) -> One:
        told = {"account": account, "event_time": event_time or now(), **body}
        return self._one(write(path, told, key))
