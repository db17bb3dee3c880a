"""SMTP: mail to a relay or a mailbox provider's submission service.

API:         RFC 5321 (SMTP), 3207 (STARTTLS), 4954 (AUTH), 2034/3463 (status codes), 6531 (UTF-8)
Sends:       one recipient a transaction over a pool of kept connections
Lost reply:  safe to repeat: the Message-ID stays the same; once content went out it is unknown
Receipts:    none by callback; a bounce comes by mail
Limits:      lines of 998 octets; 10 minutes for the answer to the final dot (RFC 5321 4.5.3.2.6)
Errors:      4xx, no connection, no trust and no login are transient; 5xx is permanent
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import aiosmtplib
from pydantic import Field, FilePath, SecretStr, model_validator

from workers.errors import (
    PermanentError,
    ProviderError,
    SettingsError,
    TransientError,
    UnknownOutcomeError,
)
from workers.providers import (
    Accepted,
    Channel,
    Finding,
    Mail,
    Provider,
    ProviderContext,
    ProviderSettings,
    Sms,
)
from workers.providers._envelope import Envelope, make_envelope
from workers.providers._smtp_session import Lost as _Lost
from workers.providers._smtp_session import Reply, Session
from workers.providers._wire import is_loopback, refused, without_addresses

_SECTION = "[providers.smtp]"
# A relay may close a connection that was quiet this long, and its goodbye may still be on the way.
_ASK_AFTER_S = 2.0
_QUIT_TIMEOUT_S = 5.0


class SmtpSettings(ProviderSettings):
    """The relay, how the connection is protected, and how long each step may take."""

    host: str = Field(
        pattern=r"^[^\s/@]{1,253}$", description="Name or address of the relay, without a port."
    )
    port: int = Field(
        587, ge=1, le=65535, description="Port: 587 for starttls, 465 for tls, 25 for a relay."
    )
    username: str = Field("", description="Login name; empty sends without logging in.")
    password: SecretStr = Field(SecretStr(""), description="Password of the login.")
    tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the connection is encrypted and verified: `starttls` (upgraded before "
        "anything else is said; no fallback), `tls` (from the first byte), `none`.",
    )
    allow_clear_text: bool = Field(
        False, description="Allows `tls = none` to another machine: readable by all in between."
    )
    ca_file: FilePath | None = Field(
        None, description="PEM file of certificates trusted beside the system's own."
    )
    helo_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9.:\[\]_-]*$",
        max_length=253,
        description="Name this machine says in EHLO; empty takes its own full name.",
    )
    connections: int = Field(10, ge=1, le=50, description="Connections open at the same time.")
    timeout_s: float = Field(
        60, gt=0, le=600, description="Seconds each step up to the message's content may take."
    )
    answer_timeout_s: float = Field(
        600,
        gt=0,
        le=3600,
        description="Seconds to send the content and wait for the answer to its final dot.",
    )

    @model_validator(mode="after")
    def _clear_text_stays_here(self) -> Self:
        if self.tls == "none" and not self.allow_clear_text and not is_loopback(self.host):
            raise ValueError(
                f"tls = none sends mail and password readable over the network: set tls to "
                f"starttls or tls, or allow_clear_text = true in {_SECTION}"
            )
        return self


class Smtp(Provider):
    """Sends mail over kept, verified connections."""

    name: ClassVar[str] = "smtp"
    channels: ClassVar[frozenset[Channel]] = frozenset({"mail"})
    repeat_is_safe: ClassVar[bool] = True
    Settings: ClassVar[type[ProviderSettings]] = SmtpSettings

    settings: SmtpSettings

    def __init__(self, settings: ProviderSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._slots = asyncio.Semaphore(self.settings.connections)
        self._idle: list[Session] = []
        self._tls: ssl.SSLContext | None = None
        self._helo = ""

    async def open(self) -> None:
        """Load the trusted certificates and this machine's name.

        Raises SettingsError when ca_file holds no certificate.
        """
        try:
            self._tls = await asyncio.to_thread(self._context)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"ca_file in {_SECTION} can't be used ({error.strerror or error}): give a PEM file"
            ) from None
        self._helo = self.settings.helo_name or await asyncio.to_thread(_own_name)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.settings.ca_file is not None:
            context.load_verify_locations(self.settings.ca_file)
        return context

    async def close(self) -> None:
        """Say QUIT on all idle connections and close them."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(session.quit(_QUIT_TIMEOUT_S) for session in idle))

    async def send(self, message: Mail | Sms) -> Accepted:
        """Send one mail; the reference is the relay's queue id, or else the Message-ID."""
        if not isinstance(message, Mail):
            raise PermanentError("smtp carries mail only: send SMS by another provider")
        envelope = make_envelope(message)
        async with self._slots:
            session = await self._take()
            try:
                return await self._attempt(session, envelope)
            except _Lost as lost:
                # A kept connection may have died unnoticed: that says nothing of the relay.
                if not session.reused:
                    raise TransientError(f"smtp: the connection broke ({lost})") from None
            session = await self._open_session()
            try:
                return await self._attempt(session, envelope)
            except _Lost as lost:
                raise TransientError(f"smtp: the connection broke again ({lost})") from None

    async def _attempt(self, session: Session, envelope: Envelope) -> Accepted:
        """One transaction; the connection goes back to the pool only when it is in step.

        Raises _Lost while nothing of the content has gone out.
        """
        keep = False
        try:
            await self._offer(session, envelope)
            accepted = await self._content(session, envelope)
            keep = True
            return accepted
        except (PermanentError, TransientError):
            keep = await self._back_in_step(session)
            raise
        finally:
            if keep and session.is_open:
                session.reused = True
                session.last_used = asyncio.get_running_loop().time()
                self._idle.append(session)
            else:
                session.close()

    async def _take(self) -> Session:
        now = asyncio.get_running_loop().time()
        while self._idle:
            session = self._idle.pop()
            if not session.is_open:
                continue
            if now - session.last_used < _ASK_AFTER_S or await self._reset(session):
                return session
            session.close()
        return await self._open_session()

    async def _open_session(self) -> Session:
        try:
            return Session(await self._connect())
        except _Lost as lost:
            raise TransientError(f"smtp: the connection broke ({lost})") from None

    async def _reset(self, session: Session) -> bool:
        try:
            session.say(b"RSET")
            return (await session.reply(self.settings.timeout_s)).code == 250
        except _Lost:
            return False

    async def _back_in_step(self, session: Session) -> bool:
        """Whether a connection is of use after a refusal, once all that was said is answered."""
        try:
            while session.outstanding:
                if (await session.reply(_QUIT_TIMEOUT_S)).code == 354:
                    return False  # it wants the content of what it has refused
        except _Lost:
            return False
        return await self._reset(session)

    # -- one transaction -----------------------------------------------------------------------

    async def _offer(self, session: Session, envelope: Envelope) -> None:
        """MAIL, RCPT and DATA, at once where the relay takes them so (RFC 2920).

        Raises _Lost, TransientError or PermanentError.
        """
        encoding = "utf-8" if envelope.utf8 else "ascii"
        commands = [
            b" ".join(
                (
                    b"MAIL FROM:<" + envelope.sender.encode(encoding) + b">",
                    *_mail_options(session, envelope),
                )
            ),
            b"RCPT TO:<" + envelope.recipient.encode(encoding) + b">",
            b"DATA",
        ]
        at_once = session.offers("pipelining")
        if at_once:
            session.say(*commands)
        reply = await self._heard(session, "MAIL", *(() if at_once else commands[:1]))
        if reply.code == 421 and session.reused:
            raise _Lost("421 at MAIL")  # it was closing the kept connection, not refusing the mail
        _expect(reply, "MAIL", {250})
        reply = await self._heard(session, "RCPT", *(() if at_once else commands[1:2]))
        _expect(reply, "RCPT", {250, 251})
        reply = await self._heard(session, "DATA", *(() if at_once else commands[2:]))
        _expect(reply, "DATA", {354})

    async def _heard(self, session: Session, step: str, *commands: bytes) -> Reply:
        """The reply to a step, whose command is said first where it wasn't yet."""
        try:
            if commands:
                session.say(*commands)
            return await session.reply(self.settings.timeout_s)
        except _Lost as lost:
            raise _Lost(f"{lost} at {step}") from None

    async def _content(self, session: Session, envelope: Envelope) -> Accepted:
        """The content and its final dot: from the first octet on a lost reply is unknown."""
        try:
            session.content(envelope.content)
        except _Lost:
            raise _Lost("before the content") from None
        try:
            reply = await session.reply(self.settings.answer_timeout_s)
        except _Lost as lost:
            raise UnknownOutcomeError(
                f"smtp: the content was sent and its answer was lost ({lost}): the relay "
                "may or may not have the message"
            ) from None
        if session.unsent:
            session.close()  # it answered before it had the whole: the next replies would be off
            if 200 <= reply.code < 300:
                raise UnknownOutcomeError("smtp: the relay accepted a message before its end")
        if not 200 <= reply.code < 300:
            _refuse_after_dot(session, reply)
        queue_id = re.search(r"queued as ([\w.-]{4,40})", reply.message)
        return Accepted(queue_id.group(1) if queue_id else envelope.reference, _words(reply))

    # -- connecting ----------------------------------------------------------------------------

    async def _connect(self) -> aiosmtplib.SMTP:
        """A connection on which mail may be sent. Raises TransientError for all that can go wrong:
        it would hit every message alike, so none is failed for good.
        """
        settings = self.settings
        if self._tls is None:
            await self.open()
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout_s,
            use_tls=settings.tls == "tls",
            start_tls=False,
            tls_context=self._tls,
            local_hostname=self._helo,
        )
        try:
            await client.connect()
            await client.ehlo()
            if settings.tls == "starttls":
                if not client.supports_extension("starttls"):
                    raise _no_starttls(settings)
                await client.starttls()
                await client.ehlo()
            if settings.username:
                await client.login(settings.username, settings.password.get_secret_value())
            return client
        except ProviderError:
            client.close()
            raise
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise _connect_fault(error, settings) from None
        except BaseException:
            client.close()
            raise

    async def check(self) -> Sequence[Finding]:
        """Connect, protect, log in, NOOP and QUIT; nothing is sent."""
        place = f"{self.settings.host}:{self.settings.port}"
        try:
            client = await self._connect()
        except ProviderError as error:
            return (refused(f"smtp {place}", error),)
        findings = [Finding(f"smtp {place}", True, "connected and greeted"), self._protection()]
        if self.settings.username:
            findings.append(Finding("smtp login", True, "accepted"))
        session = Session(client)
        try:
            ready = (await self._heard(session, "NOOP", b"NOOP")).code == 250
        except _Lost:
            ready = False
        findings.append(
            Finding("smtp session", True, "NOOP answered")
            if ready
            else Finding(
                "smtp session", False, "NOOP wasn't answered with 250", "ask the relay's operator"
            )
        )
        await session.quit(_QUIT_TIMEOUT_S)
        return findings

    def _protection(self) -> Finding:
        if self.settings.tls != "none":
            return Finding("smtp encryption", True, f"{self.settings.tls}, certificate verified")
        if is_loopback(self.settings.host):
            return Finding("smtp encryption", True, "none, and the relay is this machine")
        return Finding(
            "smtp encryption",
            False,
            "mail and password cross the network in clear text",
            f"set tls = starttls in {_SECTION}",
        )


def _own_name() -> str:
    """This machine's full name, or an address literal where it has none (RFC 5321 4.1.3)."""
    name = socket.getfqdn()
    return name if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name) else "[127.0.0.1]"


# -- what is said and what replies mean ------------------------------------------------------------


def _mail_options(session: Session, envelope: Envelope) -> list[bytes]:
    options = []
    if session.offers("size"):
        options.append(b"SIZE=%d" % (len(envelope.content) - 3))
    if envelope.utf8:
        if not session.offers("smtputf8"):
            raise PermanentError(
                "smtp: an address or header has letters outside ASCII and the relay doesn't offer "
                "SMTPUTF8: use an address in ASCII or another relay"
            )
        options.append(b"SMTPUTF8")
    if envelope.eight_bit or envelope.utf8:
        if session.offers("8bitmime"):
            options.append(b"BODY=8BITMIME")
        elif envelope.eight_bit:
            raise PermanentError("smtp: the body is 8bit and the relay doesn't offer 8BITMIME")
    return options


_BAD_ADDRESS = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
"""RFC 3463 3.2 and RFC 7505: the ones about the recipient; 5.1.7 and 5.1.8 speak of the sender."""
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_LOGIN = f"check username, password and tls in {_SECTION}"


_LESS_PLEASE = re.compile(r"\brate\b|too many|throttl|slow down", re.IGNORECASE)
_SYSTEM = re.compile(r"421|4\d\d[ -]4\.[34]\.\d")
"""The relay's own state or network (RFC 3463 3.4 and 3.5), not this recipient or message."""


def _words(reply: Reply) -> str:
    return without_addresses(f"{reply.code} {reply.message}")


def _expect(reply: Reply, step: str, wanted: set[int]) -> None:
    """Raises TransientError or PermanentError unless the reply is one that was wanted."""
    if reply.code in wanted:
        return
    words = _words(reply)
    text = f"smtp: refused at {step} ({words})"
    if reply.code in _LOGIN_CODES:
        raise TransientError(f"{text}: {_LOGIN}", reply=words, trouble="access")
    if 500 <= reply.code < 600:
        found = re.match(r"5\.\d{1,3}\.\d{1,3}", reply.message)
        bad = found is not None and found.group() in _BAD_ADDRESS
        raise PermanentError(text, reply=words, address_is_bad=bad and step != "MAIL")
    if _LESS_PLEASE.search(words) or (step != "MAIL" and not _SYSTEM.match(words)):
        raise TransientError(text, reply=words, trouble="recipient")
    raise TransientError(text, reply=words)


def _refuse_after_dot(session: Session, reply: Reply) -> None:
    if 400 <= reply.code < 600:
        _expect(reply, "the final dot", set())
    session.close()
    words = _words(reply)
    raise UnknownOutcomeError(
        f"smtp: the answer to the final dot is neither yes nor no ({words})", reply=words
    )


def _kind(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return "an answer that isn't SMTP"
    return "connection closed"


def _no_starttls(settings: SmtpSettings) -> TransientError:
    return TransientError(
        f"smtp: {settings.host}:{settings.port} doesn't offer STARTTLS, and nothing is sent in "
        f"clear text: correct host and port, or set tls = tls for port 465, in {_SECTION}"
    )


def _connect_fault(error: BaseException, settings: SmtpSettings) -> TransientError:
    place = f"{settings.host}:{settings.port}"
    causes = _chain(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransientError(
                f"smtp: the certificate of {place} isn't trusted ({cause.verify_message}): use as "
                f"host the name it was issued for, or as ca_file its issuer's file, in {_SECTION}"
            )
        if isinstance(cause, ssl.SSLError):
            return TransientError(
                f"smtp: no TLS with {place} ({cause.reason}): port 465 takes tls = tls, port 587 "
                f"tls = starttls, in {_SECTION}"
            )
        if isinstance(cause, socket.gaierror):
            return TransientError(
                f"smtp: {settings.host} isn't known to the name service: correct host in {_SECTION}"
            )
    if isinstance(error, aiosmtplib.SMTPResponseException):
        words = without_addresses(f"{error.code} {error.message}")
        remedy = "ask the relay's operator"
        if isinstance(error, aiosmtplib.SMTPAuthenticationError):
            remedy = _LOGIN
        access = isinstance(error, aiosmtplib.SMTPAuthenticationError)
        return TransientError(
            f"smtp: {place} refused ({words}): {remedy}",
            reply=words,
            trouble="access" if access and error.code >= 500 else "provider",
        )
    if isinstance(error, aiosmtplib.SMTPException) and not isinstance(error, OSError):
        return TransientError(f"smtp: {place} offers no login that is known here: {_LOGIN}")
    return TransientError(
        f"smtp: no session with {place} ({_kind(error)}): check host and port in {_SECTION}, the "
        "network and the firewall"
    )


def _chain(error: BaseException | None) -> list[Any]:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes
