"""Writes: commands one by one or in lists, and a path for each thing that people book.

What may stand in a body is what the command's struct holds: the document's schemas are made from
the structs, and bodies are checked by the same reader that `daybook submit` uses.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import uuid_utils
from msgspec import Struct
from starlette.responses import Response

from api.commands_json import COMMANDS, answer_json, fact_from_object
from api.front import UNKNOWN_ACCOUNT, Missing
from api.http import parameters as p
from api.http import problems
from api.http.command_schemas import ANSWER, command_schema, commands_schema
from api.http.examples import EXAMPLES
from api.http.operation import Body, Call, Operation, Parameter, Reply
from api.http.problems import Problem
from api.http.security import Scope
from api.http.strict_json import body_of
from api.importing.lines import Fact
from domain.commands import DefinePortfolio, SendTransfer, topic_of
from domain.commands import Request as Command
from domain.errors import InvalidValue
from domain.identifiers import check_id
from streams.answers import Answer
from streams.positions import newest

ONE_BYTES: Final = 1 << 20
LIST_BYTES: Final = 16 << 20
MOST_COMMANDS: Final = 10_000
_TURN: Final = 100
"""Commands of a list that are looked at before others have their turn: some milliseconds."""
_STRICT: Final = Parameter(
    "strict",
    "`true` assumes no account and no instrument that is not known.",
    {"type": "string", "enum": ["true", "false"]},
    "false",
)
_SCOPES: Final[dict[str, Scope]] = {
    "OpenAccount": "accounts",
    "CloseAccount": "accounts",
    "PlaceOrder": "orders",
    "CancelOrder": "orders",
    "ReplaceOrder": "orders",
}
_encode = msgspec.json.Encoder().encode


class Write(Struct, frozen=True):
    """A command at a path. `own_id` is the field that is the command's id where none is told.

    `from_path` is the field that the path tells.
    """

    path: str
    command: str
    summary: str
    own_id: str | None = None
    from_path: str | None = None


WRITES: Final = (
    Write("/v1/accounts", "OpenAccount", "Open an account, or change its settings"),
    Write("/v1/orders", "PlaceOrder", "Place an order", own_id="order_id"),
    Write("/v1/orders/{id}/cancel", "CancelOrder", "Ask for a cancel", from_path="order_id"),
    Write("/v1/orders/{id}/replace", "ReplaceOrder", "Ask for a replace", from_path="order_id"),
    Write("/v1/deals", "RecordDeal", "Record a deal", own_id="deal_id"),
    Write(
        "/v1/deals/{id}/bust",
        "BustDeal",
        "Record that a deal never was",
        own_id="deal_id",
        from_path="ref_deal_id",
    ),
    Write(
        "/v1/deals/{id}/correct",
        "CorrectDeal",
        "Record a deal that takes the place of another",
        own_id="deal_id",
        from_path="ref_deal_id",
    ),
    Write("/v1/cash", "MoveCash", "Record that cash moved", own_id="cash_id"),
    Write("/v1/transfers", "SendTransfer", "Send cash or lots to another account", "transfer_id"),
)


def operations() -> list[Operation]:
    """Return the operations that write."""
    return [_commands(), *map(_write, WRITES)]


def scope_of(command: Command) -> Scope:
    """Return the scope that a command needs."""
    if topic_of(command.command) != "events":
        return "reference"
    return _SCOPES.get(type(command.command).__name__, "book")


_REPLIES: Final = {
    201: Reply("It is recorded.", ANSWER, EXAMPLES["answer"]),
    200: Reply("It was recorded before.", ANSWER, EXAMPLES["answer"] | {"status": "duplicate"}),
}


def _write(write: Write) -> Operation:
    example = EXAMPLES[write.command]
    return Operation(
        name=write.command[0].lower() + write.command[1:],
        method="POST",
        path=write.path,
        summary=write.summary,
        scope=_SCOPES.get(write.command, "book"),
        parameters=(_STRICT,),
        body=Body(_body_schema(write), example, ONE_BYTES),
        replies=_REPLIES,
        answer=_answer_one(write),
    )


def _body_schema(write: Write) -> dict[str, Any]:
    return command_schema(COMMANDS[write.command], told_elsewhere=(write.from_path, write.own_id))


def _commands() -> Operation:
    many = {"type": "array", "items": ANSWER}
    return Operation(
        name="submit",
        method="POST",
        path="/v1/commands",
        summary="Submit a command, or a list of them",
        description="A list is answered one by one, in its order; each command has its own id.",
        scope="write",
        parameters=(_STRICT,),
        body=Body(commands_schema(MOST_COMMANDS), EXAMPLES["command"], LIST_BYTES),
        replies={
            200: Reply(
                "The answer to each, or to one that was recorded before.",
                {"anyOf": [ANSWER, many]},
                [EXAMPLES["answer"]],
            ),
            201: Reply("It is recorded.", ANSWER, EXAMPLES["answer"]),
        },
        answer=_answer_commands,
    )


def _answer_one(write: Write) -> Callable[[Call], Awaitable[Response]]:
    async def answer(call: Call) -> Response:
        asked = p.asked(call.request, call.operation.parameters)
        told = await body_of(call.request, ONE_BYTES)
        if not isinstance(told, dict):
            raise InvalidValue("body", told, "a JSON object")
        return await _submitted(call, asked, _enveloped(call, write, told))

    return answer


def _enveloped(call: Call, write: Write, told: dict[str, Any]) -> dict[str, Any]:
    """Return a command of the shape of `daybook submit` from a body that holds its fields."""
    command_id = _key_told(call) or str(uuid_utils.uuid7())
    about = {"account": told.pop("account", None), "event_time": told.pop("event_time", None)}
    if write.from_path is not None:
        if write.from_path in told:
            raise InvalidValue(write.from_path, told[write.from_path], "it in the path alone")
        told[write.from_path] = call.path("id")
    if write.own_id is not None:
        told.setdefault(write.own_id, command_id)
    return {"command_id": command_id, "type": write.command, "data": told, **about}


async def _answer_commands(call: Call) -> Response:
    asked = p.asked(call.request, call.operation.parameters)
    told = await body_of(call.request, LIST_BYTES)
    if isinstance(told, dict):
        key = _key_told(call)
        if key is not None and told.setdefault("command_id", key) != key:
            raise InvalidValue("command_id", told["command_id"], f"the Idempotency-Key, {key}")
        return await _submitted(call, asked, told)
    if not isinstance(told, list) or len(told) > MOST_COMMANDS:
        raise InvalidValue("body", "", f"a command, or a list of at most {MOST_COMMANDS}")
    if _key_told(call) is not None:
        raise InvalidValue("Idempotency-Key", _key_told(call), "none: each command has its own")
    return await _submitted_list(call, asked, told)


def _key_told(call: Call) -> str | None:
    told = call.request.headers.getlist("idempotency-key")
    if len(told) > 1:
        raise InvalidValue("Idempotency-Key", ", ".join(told), "one")
    return check_id(_as_sent(told[0]), "Idempotency-Key") if told else None


def _as_sent(header: str) -> str:
    """Return a header's text, which is UTF-8 and was read as latin-1; raises InvalidValue."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise InvalidValue("Idempotency-Key", header, "text in UTF-8") from None


async def _submitted(call: Call, asked: p.Asked, told: dict[str, Any]) -> Response:
    fact = _fact(call, told)
    await _check_allowed(call, fact)
    strict = asked.choice(_STRICT, "false") == "true"
    (answer,) = await call.services.writer.submit([fact], strict=strict)
    return _response(fact, answer)


def _fact(call: Call, told: dict[str, Any], line: int = 0) -> Fact:
    """Return the fact of a command as this principal tells it; raises InvalidValue."""
    principal = call.principal
    actor = told.get("actor")
    if actor is not None and actor != principal.subject and call.services.gate.needs_tokens:
        raise InvalidValue("actor", actor, f"none, or {principal.subject!r}")
    known = (("actor", principal.subject), ("correlation_id", call.request.state.correlation_id))
    for name, value in known:
        if told.get(name) is None:  # null is as if it were not told
            told[name] = value
    return fact_from_object(told, line)


async def _check_allowed(call: Call, fact: Fact) -> None:
    """Raise Problem for a command that the principal may not give; a foreign account is absent."""
    request, principal = fact.request, call.principal
    scope = scope_of(request)
    if not principal.may(scope):
        raise Problem(problems.FORBIDDEN, f"{type(request.command).__name__} needs scope {scope}")
    if isinstance(request.command, DefinePortfolio) and principal.accounts is not None:
        # Whoever puts a portfolio below his own has its accounts.
        raise Problem(problems.FORBIDDEN, "portfolios are defined by who may see all accounts")
    if topic_of(request.command) != "events":
        return
    accounts = [request.key]
    if isinstance(request.command, SendTransfer):
        accounts.append(request.command.to_account)
    call.request.state.accounts.update(accounts)
    for account in accounts:
        if not await call.services.owns(principal, account):
            raise _unknown_account()


def _unknown_account() -> Problem:
    return Problem(problems.UNKNOWN_ACCOUNT, "there is no such account, or it is not yours")


def _response(fact: Fact, answer: Answer | Missing) -> Response:
    told = answer_json(fact.request.command_id, answer)
    headers = _position_headers([answer])
    match answer:
        case Missing() if answer.reason == UNKNOWN_ACCOUNT:
            raise _unknown_account()
        case Missing():
            about: dict[str, Any] = {
                "field": answer.field,
                "value": answer.value,
                "reason": answer.reason,
            }
            detail = f"{answer.field} {answer.value!r} is not known"
            raise Problem(problems.LACKING, detail, **about)
        case Answer(status="accepted"):
            return Response(_encode(told), 201, headers, media_type="application/json")
        case Answer(status="duplicate"):
            return Response(_encode(told), 200, headers, media_type="application/json")
    kind = problems.LACKING if answer.status == "lacking" else problems.REFUSED
    if answer.reason == "conflict":  # of the command's id, or refused: of the fact's own
        kind = problems.CONFLICT
    detail = answer.detail or answer.reason or answer.status
    told.pop("detail", None)
    told.pop("status")
    raise Problem(kind, detail, headers=headers, answer=told)


def _position_headers(answers: list[Answer | Missing]) -> dict[str, str]:
    found = [one for one in answers if isinstance(one, Answer)]
    headers = {}
    if position := newest(one.position for one in found if one.position is not None):
        headers["Daybook-Position"] = position
    if len(answers) == 1 and found and found[0].replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


async def _submitted_list(call: Call, asked: p.Asked, told: list[Any]) -> Response:
    strict = asked.choice(_STRICT, "false") == "true"
    answers: list[Mapping[str, Any] | None] = []
    facts: list[Fact] = []
    for line, one in enumerate(told):
        if line % _TURN == 0:
            await asyncio.sleep(0)
        try:
            if not isinstance(one, dict):
                raise InvalidValue("command", one, "a JSON object")
            fact = _fact(call, one, line)
            await _check_allowed(call, fact)
        except (InvalidValue, Problem) as error:
            answers.append(_refused(one, line, error))
            continue
        answers.append(None)
        facts.append(fact)
    given = await call.services.writer.submit(facts, strict=strict) if facts else []
    rest = zip(facts, given, strict=True)
    content = [
        answer_json((pair := next(rest))[0].request.command_id, pair[1]) if one is None else one
        for one in answers
    ]
    headers = _position_headers(list(given)) if given else {}
    headers.pop("Idempotency-Replayed", None)
    return Response(_encode(content), 200, headers, media_type="application/json")


def _refused(told: Any, line: int, error: InvalidValue | Problem) -> dict[str, Any]:
    """Return the answer to a command of a list that was not even submitted."""
    command_id = told.get("command_id") if isinstance(told, dict) else None
    answer = answer_json(command_id if isinstance(command_id, str) else None, None)
    if isinstance(error, InvalidValue):
        about = {"detail": str(error), "field": error.field, "line": line}
        return {**answer, "reason": "invalid", **about}
    reason = error.kind.name.replace("-", "_")
    return {**answer, "reason": reason, "detail": error.detail, "line": line}
