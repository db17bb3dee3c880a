"""The composition root: settings -> store, rules, renderer, providers, the acts. No logic."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from workers.core import Core, open_core, utc_now
from workers.deliver import Delivery
from workers.envelope import Seals
from workers.errors import SettingsError
from workers.events import EventIntake
from workers.intake import Intake
from workers.links import Links
from workers.providers import (
    Channel,
    Keep,
    Mail,
    Provider,
    ProviderContext,
    ProviderSettings,
    Sms,
    find_providers,
)
from workers.render import Brand, Renderer
from workers.render.mail import UnsafeMailError
from workers.scan import Scan
from workers.settings import Settings
from workers.store import Store
from workers.tasks import Bell

TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True, slots=True)
class App(Core):
    """The whole product, wired.

    `providers` has those of each channel in the order of use, `by_name` all; by their names in the
    settings. `console_key` is this database's secret for marks in forms of the console.
    """

    renderer: Renderer
    providers: Mapping[Channel, Mapping[str, Provider]]
    by_name: Mapping[str, Provider]
    callback_keys: Mapping[str, str]
    console_key: str
    links: Links
    intake: Intake
    events: EventIntake
    scan: Scan
    delivery: Delivery
    bell: Bell


class InboxKeep(Keep):
    """Keeps messages in the store's inbox table."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def keep(self, message: Mail | Sms) -> str:
        """Stores the message; a repeated uid is kept once."""
        mail = isinstance(message, Mail)
        await self._store.operations.keep(
            uid=message.uid,
            channel="mail" if isinstance(message, Mail) else "sms",
            recipient=message.recipient if isinstance(message, Mail) else message.number,
            subject=message.subject if isinstance(message, Mail) else "",
            source=message.source if isinstance(message, Mail) else message.text.encode(),
            now=self._clock(),
        )
        return f"inbox-{message.uid}" if mail else f"inbox-sms-{message.uid}"


@asynccontextmanager
async def open_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    migrate: bool = True,
) -> AsyncIterator[App]:
    """Opens everything that the settings ask for, and closes it in reverse.

    Raises SettingsError naming the key when something can't be used.
    """
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(settings, clock=clock, migrate=migrate))
        store, rules, registry = core.store, core.rules, core.registry
        link_key = await store.database.meta("link_key")
        try:
            renderer = Renderer(settings.templates or TEMPLATES, rules, _brand(settings))
        except UnsafeMailError as error:
            raise SettingsError(f"mail.sender: {error}") from None
        built = build_providers(settings, link_key, InboxKeep(store, clock))
        callback_keys = {name: _callback_key(link_key, name) for name in built}
        for provider in built.values():
            await provider.open()
            stack.push_async_callback(provider.close)
        in_use: dict[Channel, Mapping[str, Provider]] = {
            "mail": {name: built[name] for name in settings.mail.providers},
            "sms": {name: built[name] for name in settings.sms.providers},
        }
        links = Links(settings.base_url, [link_key])
        bell = Bell(settings.broker_url)
        stack.callback(bell.close)
        delivery = Delivery(store, registry, renderer, in_use, links, settings, clock)
        intake = Intake(store, registry, clock)
        yield App(
            settings=settings,
            clock=clock,
            store=store,
            rules=rules,
            registry=registry,
            records=core.records,
            renderer=renderer,
            providers=in_use,
            by_name=built,
            callback_keys=callback_keys,
            console_key=_secret_of(link_key, "console"),
            links=links,
            intake=intake,
            events=EventIntake(
                store,
                registry,
                intake,
                clock,
                Seals(settings),
                partial(renderer.has, channel="mail"),
            ),
            scan=Scan(store, registry, settings, clock, bell.ring),
            delivery=delivery,
            bell=bell,
        )


def _brand(settings: Settings) -> Brand:
    _, address = parseaddr(settings.mail.sender)
    return Brand(
        product=settings.brand.name,
        products=settings.brand.names,
        sender=settings.mail.sender,
        reply_to=settings.mail.reply_to,
        contact=settings.brand.contact,
        partner_centre_url=settings.brand.partner_centre_url,
        domain=settings.mail.domain or address.rpartition("@")[2],
        sms_signature=settings.sms.signature,
        sms_signatures=settings.sms.signatures,
    )


def build_providers(settings: Settings, link_key: str, keep: Keep) -> dict[str, Provider]:
    """The providers that the channels name, by name in the settings.

    Raises SettingsError naming the key.
    """
    found = find_providers()
    built: dict[str, Provider] = {}
    wanted: list[tuple[Channel, str]] = [("mail", name) for name in settings.mail.providers]
    wanted += [("sms", name) for name in settings.sms.providers]
    for channel, name in wanted:
        table = dict(settings.providers.get(name, {}))
        kind = str(table.pop("type", name))
        if kind not in found:
            known = ", ".join(sorted(found))
            raise SettingsError(
                f"{channel}.providers: there is no provider {kind!r}; there are {known}"
            )
        if channel not in found[kind].channels:
            raise SettingsError(f"{channel}.providers: {kind} doesn't carry {channel}")
        if name not in built:
            context = ProviderContext(
                callback_url=_callback_url(settings, link_key, name), keep=keep
            )
            built[name] = found[kind](_provider_settings(found[kind], name, table), context)
    return built


def _provider_settings(
    provider: type[Provider], name: str, table: dict[str, object]
) -> ProviderSettings:
    try:
        return provider.Settings.model_validate(table)
    except ValidationError as error:
        lines = []
        for one in error.errors():
            key = ".".join(str(part) for part in ("providers", name, *one["loc"]))
            said = str(one["msg"]).removeprefix("Value error, ")
            if one["type"] == "extra_forbidden":
                known = ", ".join(provider.Settings.model_fields)
                said = f"there is no such setting; there are {known}"
            lines.append(f"{key}: {said}")
        raise SettingsError("\n".join(lines)) from None


def _callback_key(link_key: str, name: str) -> str:
    return _secret_of(link_key, f"callback|{name}")


def _secret_of(link_key: str, what: str) -> str:
    """A secret of its own for each purpose, from the one that the database has."""
    return hmac.new(link_key.encode(), what.encode(), hashlib.sha256).hexdigest()[:32]


def _callback_url(settings: Settings, link_key: str, name: str) -> str:
    """Status reports come unauthenticated from some vendors, so the path can't be guessed."""
    if not settings.public_url:
        return ""
    return f"{settings.base_url}/callbacks/{name}/{_callback_key(link_key, name)}"
