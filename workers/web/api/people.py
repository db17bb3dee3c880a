"""/v1/partners, /v1/contacts: who they are, and what a person gets and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from schedules.people import ContactData, PartnerData
from workers.errors import InputError
from workers.intake import Incoming, person_ref
from workers.tokens import Scope
from workers.web.api._cursors import page, read_cursor
from workers.web.api._operation import (
    Answer,
    Asked,
    Call,
    Instant,
    Kind,
    Operation,
    PageAsked,
    Reason,
    Ref,
    Text,
    Way,
    page_of,
)
from workers.web.api._reading import body_problem
from workers.wishes import choose, person, wishes

_DIGEST = Literal["each", "daily"]


class Partner(Answer):
    """A partner. `parent` is its distributor."""

    ref: str
    name: str | None
    type: str | None
    parent: str | None
    account_authenticated: bool | None
    changed_at: Instant


class Contact(Answer):
    """A person of a partner. `digest` is what is in force; `chosen`, whether they chose it."""

    ref: str
    partner: str
    role: str | None
    name: str | None
    mail: str | None
    mobile: str | None
    language: str
    time_zone: str
    channels: list[str]
    quiet_hours: str | None
    digest: str
    chosen: bool
    active: bool
    changed_at: Instant


class PartnersAsked(PageAsked):
    """Which partners."""

    text: Text | None = Field(None, description="Part of a ref or name.")


class ContactsAsked(PageAsked):
    """Which contacts."""

    partner: Ref | None = None


class PartnerPlace(Asked):
    """Which partner."""

    ref: Ref


class ContactPlace(Asked):
    """Which contact."""

    ref: str = Field(min_length=1, max_length=200)


class PartnerBody(Asked):
    """A partner as its system has it. What is left out stays as it is."""

    ref: Ref
    name: Text | None = None
    type: Text | None = None
    parent: Ref | None = None
    account_authenticated: bool | None = None


class ContactBody(Asked):
    """A person as their system has them. What is left out stays as it is."""

    partner: Ref
    partner_name: Text | None = Field(None, description="Of a partner that isn't known yet.")
    ref: Ref | None = Field(None, description="Left out, it is made of partner, role and address.")
    role: Text | None = Field(None, description="administrator, sales, finance, … or your own.")
    name: Text | None = None
    mail: str | None = Field(None, min_length=3, max_length=254)
    mobile: str | None = Field(None, min_length=5, max_length=32, examples=["+8613812345678"])
    language: str | None = Field(None, min_length=2, max_length=20, examples=["zh-CN"])
    time_zone: str | None = Field(None, min_length=1, max_length=64, examples=["Asia/Shanghai"])
    channels: list[Way] | None = Field(None, max_length=2)
    quiet_hours: str | None = Field(None, max_length=20, examples=["21:00-08:00", "none"])
    digest: _DIGEST | None = None
    active: bool | None = None


class Upserted(Answer):
    """What became of it: new, changed or unchanged."""

    ref: str
    outcome: str


class Switching(Asked):
    """One kind by one channel."""

    kind: Kind
    channel: Way


class Choose(Asked):
    """What a person is to get, chosen in their name; they may change it by the link in any mail."""

    digest: _DIGEST | None = Field(
        None, description="daily: one mail a day of what isn't urgent; each: each by itself."
    )
    off: list[Switching] = Field(default=[], max_length=100)
    on: list[Switching] = Field(default=[], max_length=100)
    reason: Reason = ""


class Chosen(Answer):
    """The digest that was chosen, by whom and when."""

    digest: str
    by: str
    at: Instant


class FromFiles(Answer):
    """What the system that the contact comes from says of it."""

    digest: str
    channels: list[str]
    quiet_hours: str | None


class Addresses(Answer):
    """Full addresses; null where there is none or it is masked."""

    mail: str | None
    sms: str | None


class SwitchedOff(Answer):
    """A kind that doesn't come by a channel (`*`: none), and the stages that come all the same."""

    kind: str
    channel: str
    by: str
    reason: str
    since: Instant
    comes_all_the_same: list[str]


class Preferences(Answer):
    """What is in force for a contact. `changes` says in words what this request changed."""

    contact: str
    partner: str
    role: str | None
    name: str | None
    active: bool
    digest: str
    chosen: Chosen | None
    files: FromFiles
    addresses: Addresses
    off: list[SwitchedOff]
    changes: list[str]


async def _partners(call: Call) -> dict[str, Any]:
    asked: PartnersAsked = call.query
    rows = await call.app.store.lists.partners(
        text=asked.text, after=read_cursor(call, str), limit=asked.limit + 1
    )
    found = page(call, rows, "ref")
    return found | {"items": [_partner(row) for row in found["items"]]}


def _partner(row: Any) -> dict[str, Any]:
    data = PartnerData.model_validate(row.data).model_dump(mode="json")
    return data | {"changed_at": row.changed_at}


async def _show_partner(call: Call) -> dict[str, Any]:
    return _partner(await call.app.store.lists.partner(call.place.ref))


async def _contacts(call: Call) -> dict[str, Any]:
    asked: ContactsAsked = call.query
    rows = await call.app.store.lists.contacts(
        partner=asked.partner, after=read_cursor(call, str), limit=asked.limit + 1
    )
    found = page(call, rows, "ref")
    return found | {"items": [_contact(row) for row in found["items"]]}


def _contact(row: Any) -> dict[str, Any]:
    # What was stored by an older version may lack what has a default.
    data = ContactData.model_validate(row.data).model_dump(mode="json")
    return data | {
        "ref": row.ref,
        "digest": row.chosen or data["digest"],
        "chosen": row.chosen is not None,
        "changed_at": row.changed_at,
    }


async def _show_contact(call: Call) -> dict[str, Any]:
    one = await person(call.app, call.place.ref)
    return _contact(one.row)


async def _put_partner(call: Call) -> dict[str, Any]:
    return await _take(call, PartnerData)


async def _put_contact(call: Call) -> dict[str, Any]:
    return await _take(call, ContactData)


async def _take(call: Call, model: type[BaseModel]) -> dict[str, Any]:
    """By the way that files and events go."""
    said = call.body.model_dump(exclude_unset=True)
    # An explicit null is no value: what is there stays.
    given = {name: value for name, value in said.items() if value is not None}
    try:
        thing = model.model_validate(given)
    except ValidationError as error:
        raise body_problem(error, model) from None
    except (ValueError, ArithmeticError) as error:
        raise InputError(str(error)) from None
    batch = await call.app.intake.take([Incoming(thing)])
    return {"ref": person_ref(thing), "outcome": batch.outcomes[0].value}


async def _preferences(call: Call) -> dict[str, Any]:
    return wishes(call.app, await person(call.app, call.place.ref))


async def _choose(call: Call) -> dict[str, Any]:
    body: Choose = call.body
    one, changes = await choose(
        call.app,
        call.place.ref,
        digest=body.digest,
        off=[(each.kind, each.channel) for each in body.off],
        on=[(each.kind, each.channel) for each in body.on],
        by=call.caller.name,
        reason=body.reason,
    )
    return wishes(call.app, one, changes)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/partners",
        "listPartners",
        "Partners by ref",
        _partners,
        scope=Scope.PEOPLE_READ,
        query=PartnersAsked,
        answer=page_of(Partner),
        problems=("cursor",),
    ),
    Operation(
        "GET",
        "/v1/partners/{ref}",
        "showPartner",
        "One partner",
        _show_partner,
        scope=Scope.PEOPLE_READ,
        place=PartnerPlace,
        answer=Partner,
        tag=True,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        "/v1/partners",
        "putPartner",
        "Bring a partner in, or what changed of it",
        _put_partner,
        scope=Scope.PEOPLE_WRITE,
        body=PartnerBody,
        answer=Upserted,
    ),
    Operation(
        "GET",
        "/v1/contacts",
        "listContacts",
        "Contacts by ref",
        _contacts,
        scope=Scope.PEOPLE_READ,
        query=ContactsAsked,
        answer=page_of(Contact),
        problems=("cursor",),
    ),
    Operation(
        "GET",
        "/v1/contacts/{ref}",
        "showContact",
        "One contact",
        _show_contact,
        scope=Scope.PEOPLE_READ,
        place=ContactPlace,
        answer=Contact,
        tag=True,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        "/v1/contacts",
        "putContact",
        "Bring a contact in, or what changed of them",
        _put_contact,
        scope=Scope.PEOPLE_WRITE,
        body=ContactBody,
        answer=Upserted,
    ),
    Operation(
        "GET",
        "/v1/contacts/{ref}/preferences",
        "showPreferences",
        "What a contact gets, by which channel and how",
        _preferences,
        scope=Scope.PEOPLE_READ,
        place=ContactPlace,
        answer=Preferences,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        "/v1/contacts/{ref}/preferences",
        "choosePreferences",
        "Choose what a contact gets, in their name",
        _choose,
        scope=Scope.PEOPLE_WRITE,
        place=ContactPlace,
        body=Choose,
        answer=Preferences,
        problems=("not-found", "state"),
    ),
)
