"""Every setting: name, unit, default, meaning. docs/configuration.md is generated from here.

Read once, from a TOML file and the environment (which wins): `DUEWATCH_MAIL__SENDER` sets
`sender` in `[mail]`; `DATABASE_URL` and `BROKER_URL` are read under their usual names too.
An unknown or wrong key is refused on start with its name and what it may be.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from schedules.rule import Channel, QuietHours, When
from workers.endpoints import NAME, Endpoint
from workers.errors import SettingsError
from workers.sign_in import ConsoleSettings

DEFAULT_FILE = "duewatch.toml"
PREFIX = "DUEWATCH_"


class Section(BaseModel):
    """One table of the settings file: an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _quiet(value: str) -> str:
    QuietHours.parse(value)
    return value


Quiet = Annotated[str, AfterValidator(_quiet)]


class Web(Section):
    """The web server: API, signed pages, inbox, health and metrics."""

    host: str = Field("127.0.0.1", description="Address to listen on. 0.0.0.0 is every interface.")
    port: int = Field(8025, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port of /healthz, /readyz and /metrics where a worker or scheduler runs "
        "alone; 0 takes a free one, none serves none.",
    )
    api_token: SecretStr | None = Field(
        None,
        description="The administrator's bearer token, for /v1 and for pages from other machines; "
        "programs get tokens of their own by `duewatch tokens`. Without one only this machine is "
        "answered, and those who have such a token.",
    )


class Mail(Section):
    """Mail: who sends it and which providers carry it."""

    providers: tuple[str, ...] = Field(
        ("inbox",),
        min_length=1,
        description="Names of [providers.*] in order; the next takes over from one in trouble.",
    )
    sender: str = Field(
        "Duewatch <duewatch@localhost.localdomain>", description="From: name and address."
    )
    reply_to: str = Field("", description="Reply-To address; empty for none.")
    domain: str = Field("", description="Right side of Message-IDs; empty: the sender's domain.")
    per_domain_per_minute: int = Field(
        6000, ge=0, description="Mails to one recipient domain a minute, all workers; 0: any."
    )
    quiet_hours: Quiet = Field("none", description="Hours of the recipient without mail.")


class Sms(Section):
    """SMS: signature, length and which providers carry it."""

    providers: tuple[str, ...] = Field(
        ("inbox",),
        min_length=1,
        description="Names of [providers.*] in order; the next takes over from one in trouble.",
    )
    signature: str = Field("伙伴中心", max_length=20, description="Shown in 【】 before the text.")
    signatures: dict[str, str] = Field(
        {"en": "Partner Centre"}, description="That signature by language, where it differs."
    )
    countries: tuple[str, ...] = Field(
        ("CN",), description="Countries (ISO 3166) whose numbers may be written to."
    )
    per_number_a_day: int = Field(
        50, ge=1, description="Most SMS to one number in 24 hours; more wait."
    )
    price_per_part: Decimal = Field(
        Decimal(0), ge=0, description="What a part of an SMS costs, in `currency`."
    )
    currency: str = Field("CNY", pattern="^[A-Z]{3}$", description="Of the price (ISO 4217).")
    money_a_day: Decimal | None = Field(
        None, gt=0, description="Most to spend on a day of Beijing; the rest waits for the next."
    )
    quiet_hours: Quiet = Field("21:00-08:00", description="Hours of the recipient without SMS.")


class Brand(Section):
    """What messages say of whoever sends them."""

    name: str = Field("Partner Centre", description="Name of whoever sends.")
    names: dict[str, str] = Field(
        {"zh-CN": "伙伴中心"}, description="That name by language, where it differs."
    )
    contact: str = Field("", description="Whom to ask: shown at the end of each mail.")
    partner_centre_url: str = Field(
        "", description="Where a button leads when the record has no address of its own."
    )


class Delivery(Section):
    """How messages are handed to providers."""

    concurrency: int = Field(10, ge=1, le=200, description="Messages handed over at a time.")
    batch: int = Field(100, ge=1, le=1000, description="Messages claimed at a time.")
    poll_s: float = Field(
        2.0, gt=0, le=60, description="Seconds between looks at the database without a bell."
    )
    lease_s: float = Field(
        15.0, ge=2, le=600, description="Seconds until a dead worker's messages are taken over."
    )
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Most of `concurrency` that one provider, or one mail domain, may hold while "
        "others wait, or while it answers slowly.",
    )
    breaker_failures: int = Field(
        5, ge=1, le=1000, description="Failures in a row after which a provider is left alone."
    )
    breaker_rate: float = Field(
        0.5, gt=0, le=1, description="Or this share of failures, of 20 or more within a minute."
    )
    breaker_open_s: float = Field(
        30.0,
        gt=0,
        le=86400,
        description="Seconds until a failing provider is tried by one message; doubled each time.",
    )
    breaker_longest_s: float = Field(
        900.0, gt=0, le=86400, description="Most seconds between two such tries."
    )
    attempts: int = Field(10, ge=1, le=50, description="Tries before a message has failed.")
    first_retry_s: float = Field(60.0, gt=0, description="Seconds to the second try; then doubled.")
    longest_retry_s: float = Field(4 * 3600.0, gt=0, description="Most seconds between two tries.")


class Digest(Section):
    """One mail a day for those who wish it."""

    send_at: time = Field(
        time(9, 30),
        description="Wall-clock time of the digest (recipient's); later than the rules' send_at, "
        "so that all of a morning comes in one.",
    )


class Links(Section):
    """Signed links in messages."""

    days: int = Field(30, ge=1, le=365, description="Days a link works after the message.")


class Calendar(Section):
    """Working days."""

    folder: Path | None = Field(
        None, description="Folder of <year>.toml files that replace or add to the shipped years."
    )


class Logs(Section):
    """Logs: structured, without personal data."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json."
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")


class Scheduler(Section):
    """The clock."""

    clock_tolerance_s: float = Field(
        60.0,
        ge=0,
        description="Most seconds between this machine's clock and the database's; with more "
        "nothing is scanned or sent from here. 0: they aren't compared.",
    )


class Events(Section):
    """What producers send."""

    require_signature: bool = Field(
        False,
        description="true: an event that comes by a queue must be sealed with a key of "
        "[producers.<name>]; by HTTP the token says who sends.",
    )


class Producer(Section):
    """One producer whose events by a queue are sealed: duewatch seal shows how."""

    keys: dict[str, Annotated[SecretStr, Field(min_length=24)]] = Field(
        default_factory=dict,
        description="Secrets by the key's name; two at a time while one replaces the other.",
    )
    kinds: tuple[str, ...] | None = Field(
        None, description="Kinds that it may send of; empty: all."
    )
    sources: tuple[str, ...] | None = Field(
        None, description="Sources that it may send as; empty: any."
    )


class State(Section):
    """What this machine knows of the database, to notice that an old backup was restored."""

    file: Path | None = Field(
        None,
        description="File kept outside the database and its backups; empty: duewatch.state beside "
        "the SQLite file, or in the working folder.",
    )
    required: bool = Field(
        False,
        description="true: a machine without that file sends nothing on a database which has sent "
        "already, until duewatch resume-after-restore.",
    )


class Retention(Section):
    """How long what is over is kept; duewatch prune removes what is older."""

    messages_days: int = Field(
        400,
        ge=31,
        description="Days after its last change that a message of closed records is kept, with "
        "its attempts and receipts.",
    )
    inbox_days: int = Field(90, ge=1, description="Days that the local inbox keeps its copies.")
    events_days: int = Field(
        400, ge=31, description="Days in which a repeated event is known to be one."
    )
    runs_days: int = Field(400, ge=7, description="Days that scans are listed.")
    audit_days: int = Field(1200, ge=31, description="Days that the audit is kept.")
    quarantine_days: int = Field(
        180, ge=7, description="Days that a producer's message which couldn't be taken is kept."
    )
    webhooks_days: int = Field(
        30, ge=7, description="Days that is kept what webhooks were told, or couldn't be told."
    )


class Traces(Section):
    """OpenTelemetry traces; they need `pip install duewatch[traces]`."""

    endpoint: str = Field(
        "",
        description="Address of an OTLP/HTTP collector, http://collector:4318; empty: no traces.",
    )
    sample: float = Field(
        0.1, ge=0, le=1, description="Share of the traces begun here that is kept, 0 to 1."
    )

    @field_validator("endpoint")
    @classmethod
    def _reachable(cls, value: str) -> str:
        if value and (
            urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).netloc
        ):
            raise ValueError("must begin with http:// or https:// and name a host, or be empty")
        return value.rstrip("/")


class TellSettings(Section):
    """Whom a stage tells."""

    role: str
    by: tuple[Channel, ...] = Field(("mail",), min_length=1)
    message: str = "reminder"
    or_else: str = "administrator"


class StageSettings(Section):
    """Replaces parts of a stage, or adds one (then `when` and `tell` are needed)."""

    when: str | None = Field(None, description="`due - 5 working days`, `opened + 3 days` …")
    tell: tuple[TellSettings, ...] | None = Field(None, description="Roles, channels, messages.")
    after_deadline: bool | None = Field(None, description="Said once the deadline has passed.")
    urgent: bool | None = Field(None, description="Goes before what isn't urgent.")
    required: bool | None = Field(None, description="Mailed even to who has switched the kind off.")
    off: bool = Field(False, description="Leaves this stage out.")

    @field_validator("when")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            When.parse(value)
        return value


class RuleSettings(Section):
    """Changes one rule's cadence without touching code."""

    enabled: bool = Field(True, description="false: never scanned.")
    send_at: time | None = Field(None, description="Wall-clock time of day stages (recipient's).")
    scan_every_s: int | None = Field(
        None, ge=10, le=86400, description="Seconds between scans; a reminder is at most so late."
    )
    stages: dict[str, StageSettings] = Field(default_factory=dict, description="Stages by name.")


class Settings(Section):
    """The whole of it."""

    database_url: str = Field(
        "sqlite:///duewatch.db",
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME.",
    )
    broker_url: str = Field(
        "", description="redis://… or amqp://…; empty: in this process, with polling as the floor."
    )
    public_url: str = Field(
        "", description="Address under which recipients reach this server; links start with it."
    )
    templates: Path | None = Field(None, description="Folder of templates; empty: those shipped.")
    web: Web = Web()
    console: ConsoleSettings = ConsoleSettings()
    mail: Mail = Mail()
    sms: Sms = Sms()
    brand: Brand = Brand()
    delivery: Delivery = Delivery()
    digest: Digest = Digest()
    links: Links = Links()
    calendar: Calendar = Calendar()
    logs: Logs = Logs()
    traces: Traces = Traces()
    scheduler: Scheduler = Scheduler()
    state: State = State()
    events: Events = Events()
    retention: Retention = Retention()
    providers: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="One table a provider; `type` defaults to its name."
    )
    sources: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="One table a source; `type` defaults to its name."
    )
    producers: dict[str, Producer] = Field(
        default_factory=dict, description="One table a producer that seals its events."
    )
    rules: dict[str, RuleSettings] = Field(default_factory=dict, description="One table a rule.")
    webhooks: dict[Annotated[str, Field(pattern=f"^{NAME.pattern}$")], Endpoint] = Field(
        default_factory=dict, description="One table an endpoint that is told of notifications."
    )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite://", "postgresql://", "postgres://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"redis", "rediss", "amqp", "amqps"}:
            raise ValueError("must begin with redis:// or amqp://, or be empty")
        return value

    @property
    def base_url(self) -> str:
        """Where links lead: the public address, or this machine's."""
        return (self.public_url or f"http://{self.web.host}:{self.web.port}").rstrip("/")


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from a TOML file and the environment.

    `file` None: `duewatch.toml` in the working folder, if it is there; DUEWATCH_FILE names another.
    Raises SettingsError naming file, key and remedy.
    """
    environ = os.environ if environ is None else environ
    named = file or (Path(environ["DUEWATCH_FILE"]) if environ.get("DUEWATCH_FILE") else None)
    path = named or Path(DEFAULT_FILE)
    values: dict[str, Any] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: isn't TOML: {error}") from None
    elif named is not None:
        raise SettingsError(f"{path}: no such file: write one with duewatch init {path}")
    _overlay(values, environ)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain_faults(error, path if path.exists() else None)) from None


def _overlay(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    for short in ("DATABASE_URL", "BROKER_URL"):
        if environ.get(short):
            values[short.lower()] = environ[short]
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name == "DUEWATCH_FILE" or name.endswith("_COMPLETE"):
            continue
        keys = name.removeprefix(PREFIX).lower().split("__")
        table = values
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise SettingsError(f"{name}: {key} isn't a table of settings")
        table[keys[-1]] = _read(text)


def _read(text: str) -> Any:
    """A value from the environment: TOML where it reads as such (8025, true, ["a"]), else text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def explain_faults(error: ValidationError, path: Path | None) -> str:
    """What is wrong, a line a key: `duewatch.toml: mail.port: …`; secrets aren't shown."""
    lines = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"])
        said = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            said = "there is no such setting" + _did_you_mean(one["loc"])
        else:
            said = f"{said} (it is {_shown(key, one.get('input'))})"
        lines.append(f"{path or 'environment'}: {key}: {said}")
    return "\n".join(lines)


def _shown(key: str, value: Any) -> str:
    words = ("password", "secret", "token", "key", "sources")
    # A whole table may have a secret in it.
    secret = isinstance(value, dict) or any(word in key for word in words)
    return "hidden" if secret and not isinstance(value, bool) else f"{value!r}"[:60]


def _did_you_mean(loc: tuple[int | str, ...]) -> str:
    model: Any = Settings
    for part in loc[:-1]:
        if hasattr(model, "model_fields"):
            field = model.model_fields.get(str(part))
            model = field.annotation if field is not None else None
        else:  # a table of tables, or a list of them (perhaps none): what each of them is
            models = [one for one in _within(model) if hasattr(one, "model_fields")]
            model = models[0] if models else None
    names = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(str(loc[-1]), names, n=1)
    return f": did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _within(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of, at any depth."""
    for one in get_args(annotation):
        yield one
        yield from _within(one)
