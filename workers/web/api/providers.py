"""/v1/providers: how each stands, and leaving one alone by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from workers.by_hand import set_provider
from workers.tokens import Scope
from workers.web.api._operation import Answer, Asked, Call, Instant, Operation, Why


class Used(Answer):
    """How much of a limit is in use."""

    in_use: int
    most: int


class Provider(Answer):
    """Who carries. `state`: closed (in use), open (left alone) or half_open (being tried)."""

    name: str
    channels: list[str]
    state: str
    why: str
    by: str
    since: Instant | None
    until: Instant | None
    in_flight: int
    used: dict[str, Used]


class Money(Answer):
    """What SMS cost today (Beijing)."""

    spent: Decimal
    most: Decimal | None
    currency: str


class Providers(Answer):
    """Those in use, and what was spent."""

    items: list[Provider]
    sms_today: Money


class ProviderPlace(Asked):
    """Which provider, by its name in the settings."""

    name: str = Field(min_length=1, max_length=64)


class SetProvider(Asked):
    """Why."""

    reason: Why


async def _list(call: Call) -> dict[str, Any]:
    delivery, sms = call.app.delivery, call.app.settings.sms
    return {
        "items": [
            {
                **{slot: getattr(one, slot) for slot in one.__slots__},
                "used": {
                    span: {"in_use": some, "most": most}
                    for span, (some, most) in (one.used or {}).items()
                },
            }
            for one in await delivery.provider_states()
        ],
        "sms_today": {
            "spent": await delivery.purse.spent_today(),
            "most": sms.money_a_day,
            "currency": sms.currency,
        },
    }


def _setter(action: Literal["open", "close"]) -> Any:
    async def move(call: Call) -> dict[str, Any]:
        await set_provider(call.app, call.place.name, action, call.caller.name, call.body.reason)
        return await _list(call)

    return move


def _set(action: Literal["open", "close"], summary: str, text: str) -> Operation:
    return Operation(
        "POST",
        f"/v1/providers/{{name}}/{action}",
        f"{action}Provider",
        summary,
        _setter(action),
        scope=Scope.ADMIN,
        place=ProviderPlace,
        body=SetProvider,
        answer=Providers,
        text=text,
        problems=("not-found",),
    )


OPERATIONS = (
    Operation(
        "GET",
        "/v1/providers",
        "listProviders",
        "How each provider stands, and the limits used",
        _list,
        scope=Scope.NOTIFICATIONS_READ,
        answer=Providers,
    ),
    _set("open", "Leave a provider alone", "Until it is closed by hand; the next one carries."),
    _set("close", "Use a provider again", ""),
)
