"""A visit to a page of the console: who looks, in which language, and what may be shown."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from aiohttp import web

from schedules.fields import BEIJING
from workers.app import App
from workers.errors import InputError
from workers.render.catalogue import Catalogue
from workers.tokens import Scope
from workers.web.access import Caller

if TYPE_CHECKING:
    from workers.web.console import Console

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""As for other pages, and with the console's own scripts."""
Look = Literal["", "light", "dark"]
_MAIL = re.compile(r"[^\s<>@,;:]+@[^\s<>@,;:]+")
_NUMBER = re.compile(r"\+?\d[\d -]{6,}\d")


@dataclass(frozen=True, slots=True)
class Route:
    """A page, or what one of its forms does. Whoever lacks `scope` is refused."""

    method: Literal["GET", "POST"]
    path: str
    work: Callable[[Visit], Awaitable[web.StreamResponse]]
    scope: Scope


@dataclass(frozen=True, slots=True)
class Nav:
    """A page's place in the menu. `title` is English, marked with N_."""

    group: Literal["watch", "people", "doors", "system"]
    order: int
    path: str
    title: str
    scope: Scope


@dataclass(slots=True)
class Visit:
    """One request to the console, let in. `form` has what a form sent, by name."""

    app: App
    console: Console
    request: web.Request
    caller: Caller
    language: str
    look: Look
    mark: str
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    """A file that was sent with the form: its name and content."""

    # --- what was asked -------------------------------------------------------------------

    def place(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]

    def query(self, name: str, default: str = "") -> str:
        """What the address says, without what can't be printed; at most 200 characters."""
        text = self.request.query.get(name, default)
        return "".join(c for c in text if c.isprintable())[:200].strip()

    def number(self, name: str) -> int | None:
        """A whole number of the address, or None."""
        text = self.query(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None

    def choice(self, name: str, *options: str) -> str:
        """What the address says, if it is one of these; else ""."""
        text = self.query(name)
        return text if text in options else ""

    def said(self, name: str) -> str:
        """One field of the form, or ""."""
        values = self.form.get(name, ())
        return values[0].strip() if values else ""

    def reason(self, *, needed: bool = False) -> str:
        """Why somebody does what the form asks, for the audit. Raises InputError."""
        text = self.said("reason")
        if needed and not text:
            raise InputError("reason: say why: it is kept in the audit")
        if len(text) > 500:
            raise InputError("reason: at most 500 characters")
        return text

    def instant(self, name: str) -> datetime:
        """A wall-clock time of the form, in Beijing. Raises InputError."""
        text = self.said(name)
        try:
            return datetime.fromisoformat(text).replace(tzinfo=BEIJING)
        except ValueError:
            raise InputError(f"{name}: {text!r} isn't a date and a time") from None

    def day(self, name: str) -> date | None:
        """A date of the address, or None."""
        try:
            return date.fromisoformat(self.query(name))
        except ValueError:
            return None

    # --- who looks ------------------------------------------------------------------------

    @property
    def by(self) -> str:
        """Who it is, for the audit."""
        return self.caller.name

    @property
    def now(self) -> datetime:
        """The present instant."""
        return self.app.clock()

    def may(self, scope: str) -> bool:
        """Whether the caller has a scope, by its value."""
        return self.caller.may(Scope(scope))

    @property
    def sees_people(self) -> bool:
        """Whether names and addresses are shown in full."""
        return self.caller.may(Scope.PEOPLE_READ)

    def name(self, text: str | None) -> str:
        """A person's name as the caller may see it."""
        if not text or self.sees_people:
            return text or ""
        return f"{text[0]}**"

    def address(self, text: str | None) -> str:
        """An address or number as the caller may see it."""
        if not text or self.sees_people:
            return text or ""
        who, at, where = text.partition("@")
        return f"{who[0]}***@{where}" if at and who else f"{text[:-8]}****{text[-2:]}"

    def why(self, text: str | None) -> str:
        """A reason or a server's reply, in which addresses may stand, in the reader's language."""
        if not text:
            return ""
        said = self.catalogue.reason(text)
        return said if self.sees_people else _NUMBER.sub("****", _MAIL.sub("***@***", said))

    def kind(self, kind: str | None) -> str:
        """What people call a rule."""
        rule = self.app.rules.get(kind or "")
        if rule is None:
            return self.t("Daily digest") if kind == "digest" else kind or ""
        return rule.title.get(self.language) or rule.title.get("en") or rule.kind

    # --- what is answered -----------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The words of the reader's language."""
        return self.console.pages.catalogues[self.language]

    def t(self, text: str, **values: Any) -> str:
        """A text in the reader's language; `%(name)s` is filled in."""
        found = self.catalogue.gettext(text)
        return found % values if values else found

    def link(self, path: str, **query: Any) -> str:
        """An address with its query; empty values are left out."""
        given = {key: str(value) for key, value in query.items() if value not in {None, ""}}
        return f"{path}?{urlencode(given)}" if given else path

    def again(self, **changed: Any) -> str:
        """This page with another query; None leaves a part of it out."""
        kept = {k: v for k, v in self.request.query.items() if k not in {"said", "n", "part"}}
        return self.link(self.request.path, **{**kept, **changed})

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A whole page."""
        code = self.query("said")
        found = self.console.said.get(code)
        count = self.number("n") or 0
        text = self.console.pages.render(
            template,
            self.language,
            v=self,
            now=self.now,
            flash=self.t(found, n=count) if found else "",
            nav=self.console.menu(self),
            here=self.request.path,
            **values,
        )
        answer = web.Response(status=status, text=text, content_type="text/html")
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["Content-Language"] = self.language
        answer.headers["Vary"] = "Accept-Language, Cookie"
        return answer

    def to(self, path: str, said: str = "", **more: Any) -> web.Response:
        """Leads to another page (303), which says what was done: a word of SAID."""
        where, _, mark = path.partition("#")
        query = urlencode({**({"said": said} if said else {}), **more})
        joined = f"{where}{'&' if '?' in where else '?'}{query}" if query else where
        return web.Response(status=303, headers={"Location": joined + (f"#{mark}" if mark else "")})


def safe(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")
