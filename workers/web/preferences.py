"""/u/{token}: one click that stops a kind, and the choice of everything that a person receives.

A mail program's POST (RFC 8058) switches off what the notification was of, by its channel at its
address. The page's form chooses every kind by each channel, and how reminders come. The link is
worth what the message was: who isn't in contacts, or has another address there by now, chooses for
this address only, and a link in an SMS says nothing of mail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

import structlog
from aiohttp import web
from pydantic import ValidationError

from schedules.people import Channel, Contact, Digest
from schedules.rule import Stage, Tell
from workers.app import App
from workers.model import DIGEST
from workers.records import contact_of
from workers.render.language import cut, masked
from workers.store import Row
from workers.store.operations import Whole
from workers.store.preferences import RECIPIENT, Choice, Switch
from workers.web.links import PRIVATE, Opened, SignedLinks
from workers.web.problems import PAGES, page, read_body

log = structlog.get_logger("links")

MAX_FORM_BYTES = 16_384
"""Room for some 150 kinds with two boxes each."""
MAX_FIELDS = 700
CHANNELS: tuple[Channel, ...] = ("mail", "sms")
_RETURNED = frozenset({"provider", "receipt"})
_REASON_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Lock:
    """Why a person can't switch something on: `returned` messages, or an `operator`'s word."""

    who: Literal["returned", "operator"]
    reason: str

    @classmethod
    def of(cls, row: Row[Any]) -> Lock:
        """From a suppression that isn't the person's own."""
        reason = cut(row.reason, _REASON_LENGTH)
        return cls("returned" if row.by in _RETURNED else "operator", reason)


@dataclass(frozen=True, slots=True)
class Box:
    """One kind by one channel. `free` says whether the person may change it."""

    channel: Channel
    on: bool
    free: bool
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One kind: its boxes by channel; `required` where its last reminder always comes by mail."""

    kind: str
    title: str
    required: bool
    boxes: Mapping[Channel, Box]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who holds a link, and what it lets them choose: these addresses, and with one a digest.

    `kinds` are those of the notification itself. `digest` is how reminders come now, or None where
    that isn't the holder's to choose.
    """

    ref: str
    role: str
    known: bool
    channel: Channel
    kinds: tuple[str, ...]
    addresses: Mapping[Channel, str]
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Form:
    """What is in force for a reader: the notification's own kinds first, then by title.

    `stopped` are the channels by which nothing at all comes; `rest` counts the kinds left out.
    """

    reader: Reader
    lines: Sequence[Line]
    stopped: Mapping[Channel, Lock]
    rest: int = 0

    @property
    def own(self) -> list[Line]:
        """The kinds of the notification itself."""
        return [line for line in self.lines if line.kind in self.reader.kinds]

    @property
    def is_off(self) -> bool:
        """Whether nothing of the notification's kinds comes by its channel any more."""
        own = self.own
        return bool(own) and not any(line.boxes[self.reader.channel].on for line in own)

    @property
    def can_return(self) -> bool:
        """Whether the person may switch one of the notification's kinds on again."""
        return any(line.boxes[self.reader.channel].free for line in self.own)

    def free(self) -> dict[str, Switch]:
        """What the reader may switch, by the name of its box."""
        return {
            f"{line.kind}:{box.channel}": Switch(
                box.channel, self.reader.addresses[box.channel], line.kind
            )
            for line in self.lines
            for box in line.boxes.values()
            if box.free
        }


class PreferenceViews:
    """The pages of /u/."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._links = SignedLinks(app)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/u/{token}", self._ask)
        router.add_post("/u/{token}", self._choose)

    async def _ask(self, request: web.Request) -> web.Response:
        opened = await self._links.open(request, "unsubscribe")
        if opened.whole is None or opened.refusal is not None:
            return self._links.refused(request, opened)
        return await self._show(request, opened.whole, "unsubscribe")

    async def _choose(self, request: web.Request) -> web.Response:
        """By the page's buttons, or by a mail program without cookies (RFC 8058, 3.1)."""
        body = await read_body(request, MAX_FORM_BYTES)
        opened = await self._links.open(request, "unsubscribe")
        if opened.whole is None or opened.refusal is not None:
            return self._links.refused(request, opened)
        text = body.decode("utf-8", "replace")
        if is_one_click(text):
            return await self._stop(request, opened)
        return await self._save(request, opened.whole, text)

    async def _stop(self, request: web.Request, opened: Opened) -> web.Response:
        assert opened.whole is not None
        reader = await self._reader(opened.whole)
        address = reader.addresses[reader.channel]
        off = tuple(Switch(reader.channel, address, kind) for kind in reader.kinds)
        choice = Choice(reader.ref, off=off, why="unsubscribed by its link")
        changes = await self._app.store.preferences.choose(choice, RECIPIENT, self._app.clock())
        log.info("unsubscribed", kinds=list(reader.kinds), channel=reader.channel, new=len(changes))
        return await self._show(request, opened.whole, "unsubscribed")

    async def _save(self, request: web.Request, whole: Whole, text: str) -> web.Response:
        form = await self._form(await self._reader(whole), "en", everything=True)
        choice = _choice(text, form)
        if choice is None:
            return await self._show(request, whole, "bad_choice", status=400)
        changes = await self._app.store.preferences.choose(choice, RECIPIENT, self._app.clock())
        log.info("chosen", changes=len(changes))
        return await self._show(request, whole, "saved" if changes else "unchanged")

    async def _show(
        self, request: web.Request, whole: Whole, words: str, *, status: int = 200
    ) -> web.Response:
        everything = "all" in request.query
        language = request.app[PAGES].nearest(whole.row.language)
        form = await self._form(await self._reader(whole), language, everything=everything)
        if words in {"unsubscribe", "unsubscribed"} and form.is_off:
            words = "unsubscribed" if form.can_return else "stopped"
        answer = page(
            request,
            "preferences.html",
            status=status,
            language=language,
            name=words,
            form=form,
            reader=form.reader,
            shown={to: _shown(to, address) for to, address in form.reader.addresses.items()},
            everything=everything,
            daily_at=f"{self._app.registry.digest_at:%H:%M}",
            contact=self._app.settings.brand.contact,
        )
        answer.headers.update(PRIVATE)
        return answer

    # --- who holds the link, and what is in force for them ----------------------------------

    async def _reader(self, whole: Whole) -> Reader:
        row = whole.row
        contact = await self._contact(row.contact)
        channel: Channel = "mail" if row.channel == "mail" else "sms"
        addresses: dict[Channel, str] = {channel: row.address}
        known = contact is not None and contact.address(channel) == row.address
        digest: Digest | None = None
        if contact is not None and known and channel == "mail":
            digest = Digest.DAILY if contact.daily else Digest.EACH
            mobile = contact.address("sms")
            if mobile is not None and "sms" in contact.channels:
                addresses["sms"] = mobile
        return Reader(row.contact, row.role, known, channel, _kinds(whole), addresses, digest)

    async def _contact(self, ref: str) -> Contact | None:
        row = await self._app.store.preferences.person(ref)
        try:
            return None if row is None else contact_of(row)
        except ValidationError:
            # What is stored isn't accepted any more: the link still serves its own address.
            return None

    async def _form(self, reader: Reader, language: str, *, everything: bool) -> Form:
        store = self._app.store.preferences
        pairs = list(reader.addresses.items())
        off = {(row.channel, row.kind): row for row in await store.switched_off(pairs)}
        concerned = {*reader.kinds, *await store.told(pairs), *(kind for _, kind in off)}
        concerned -= {"*"}
        possible = {kind for kind in self._app.registry.enabled() if self._channels(kind, reader)}
        shown = concerned | possible if everything else concerned
        lines = [self._line(kind, reader, off, language) for kind in shown]
        return Form(
            reader,
            sorted(
                (line for line in lines if line.boxes),
                key=lambda line: (line.kind not in reader.kinds, line.title.casefold()),
            ),
            {to: Lock.of(off[to, "*"]) for to in reader.addresses if (to, "*") in off},
            len(possible - shown),
        )

    def _line(
        self,
        kind: str,
        reader: Reader,
        off: Mapping[tuple[str, str], Row[Any]],
        language: str,
    ) -> Line:
        rule = self._app.rules.get(kind)
        title = (rule.title.get(language) or rule.title.get("en")) if rule is not None else None
        boxes: dict[Channel, Box] = {}
        for channel in reader.addresses:
            row = off.get((channel, kind))
            own = kind in reader.kinds and channel == reader.channel
            if not own and row is None and channel not in self._channels(kind, reader):
                continue
            lock = None if row is None or row.by == RECIPIENT else Lock.of(row)
            stopped = (channel, "*") in off
            free = not stopped and lock is None
            boxes[channel] = Box(channel, on=row is None and not stopped, free=free, lock=lock)
        always = "mail" in reader.addresses and ("mail", "*") not in off
        required = always and any(
            stage.required and "mail" in tell.by for stage, tell in self._tells(kind, reader)
        )
        return Line(kind, title or kind, required, boxes)

    def _tells(self, kind: str, reader: Reader) -> Iterator[tuple[Stage, Tell]]:
        """What a kind may tell the reader: to whom isn't in contacts, only what their role gets."""
        cadence = self._app.registry.cadences.get(kind)
        for stage in cadence.stages if cadence is not None else ():
            for tell in stage.tell:
                if reader.known or reader.role in {tell.role, tell.or_else}:
                    yield stage, tell

    def _channels(self, kind: str, reader: Reader) -> set[str]:
        return {channel for _, tell in self._tells(kind, reader) for channel in tell.by}


def _kinds(whole: Whole) -> tuple[str, ...]:
    """What a notification is of: its rule, or those of the lines of a person's digest."""
    if whole.row.kind != DIGEST:
        return (whole.row.kind,)
    kept = [line.kind for line in whole.lines if line.dropped is None]
    return tuple(sorted(set(kept or [line.kind for line in whole.lines])))


def _choice(text: str, form: Form) -> Choice | None:
    """What the page's form asks for, or None when it isn't that form.

    `shown` names the boxes that were on the page, so that one which wasn't is left as it is.
    """
    try:
        fields = parse_qs(text, max_num_fields=MAX_FIELDS)
    except ValueError:
        return None
    wished = fields.get("digest", [""])[-1]
    if "save" not in fields or wished not in {"", *Digest}:
        return None
    on = set(fields.get("on", []))
    free = {name: one for name, one in form.free().items() if name in set(fields.get("shown", []))}
    return Choice(
        contact=form.reader.ref,
        off=tuple(one for name, one in free.items() if name not in on),
        on=tuple(one for name, one in free.items() if name in on),
        digest=Digest(wished) if wished and form.reader.digest is not None else None,
        why="switched off by its link",
    )


def _shown(channel: Channel, address: str) -> str:
    """An address that its owner knows again: a forwarded link mustn't tell it."""
    if channel == "sms":
        return masked(address)
    name, _, domain = address.rpartition("@")
    return f"{name[:1]}***@{domain}"


def is_one_click(text: str) -> bool:
    """RFC 8058's form, urlencoded or multipart: both spell the name and the value."""
    try:
        fields = parse_qs(text, max_num_fields=20)
    except ValueError:
        fields = {}
    if fields.get("List-Unsubscribe") == ["One-Click"]:
        return True
    return 'name="List-Unsubscribe"' in text and "One-Click" in text
