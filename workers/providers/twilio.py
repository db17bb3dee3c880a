"""Twilio, and services that speak its Messages API.

API:         www.twilio.com/docs/messaging/api/message-resource (create)
Sends:       POST {base_url}/2010-04-01/Accounts/{account_sid}/Messages.json, free text, basic auth
Lost reply:  unknown: there is no idempotency key; a status callback that comes later tells
Receipts:    POSTed form signed in X-Twilio-Signature (HMAC-SHA1 of URL and parameters)
Limits:      1600 characters a message
Errors:      429, 503, login and sender are transient (they hit all alike); other 4xx are permanent
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from workers.errors import (
    InputError,
    PermanentError,
    ProviderError,
    TransientError,
    UnknownOutcomeError,
)
from workers.providers import (
    Accepted,
    CallbackRequest,
    Finding,
    Mail,
    ProviderContext,
    ProviderSettings,
    Report,
    Sms,
)
from workers.providers._wire import (
    HttpPoster,
    HttpReply,
    PostTimeout,
    SmsByPost,
    check_base_url,
    refused,
    reports_finding,
    too_many_requests,
    without_addresses,
)

_SECTION = "[providers.twilio]"
ReportStatus = Literal["delivered", "bounced", "unknown"]


class TwilioSettings(ProviderSettings):
    """The account, and the number or service that messages come from."""

    base_url: Annotated[str, AfterValidator(check_base_url)] = Field(
        "https://api.twilio.com", description="Address of the API; https."
    )
    account_sid: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Account SID, like AC0123…; the login name."
    )
    auth_token: SecretStr = Field(
        min_length=1, description="Auth token: the password, and the key of status callbacks."
    )
    sender: str = Field(
        "", max_length=32, description="Number (E.164) or alphanumeric name messages come from."
    )
    messaging_service_sid: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="Messaging service that picks the sender; instead of `sender`.",
    )
    timeout_s: PostTimeout = 15

    @model_validator(mode="after")
    def _one_sender(self) -> Self:
        if bool(self.sender) == bool(self.messaging_service_sid):
            raise ValueError(f"set one of sender and messaging_service_sid in {_SECTION}")
        return self


class Twilio(SmsByPost):
    """Sends free text and reads signed status callbacks."""

    name: ClassVar[str] = "twilio"
    Settings: ClassVar[type[ProviderSettings]] = TwilioSettings

    settings: TwilioSettings

    def __init__(self, settings: ProviderSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._http = HttpPoster(self.name, self.settings.timeout_s)

    async def send(self, message: Mail | Sms) -> Accepted:
        """Send one SMS as free text; the reference is the message's SID."""
        sms = self.sms(message)
        form = {"To": sms.number, "Body": sms.text, **self._from()}
        if self.context.callback_url:
            # A callback that overtakes a lost reply names the message by our uid.
            query = urlencode({"uid": sms.uid})
            form["StatusCallback"] = f"{self.context.callback_url}?{query}"
        return _accepted(await self._post(form))

    def _from(self) -> dict[str, str]:
        if self.settings.messaging_service_sid:
            return {"MessagingServiceSid": self.settings.messaging_service_sid}
        return {"From": self.settings.sender}

    async def _post(self, form: dict[str, str]) -> HttpReply:
        settings = self.settings
        login = f"{settings.account_sid}:{settings.auth_token.get_secret_value()}"
        try:
            body = urlencode(form).encode()
        except UnicodeEncodeError:
            raise PermanentError("the text holds half a surrogate pair: it can't be sent") from None
        return await self._http.post(
            f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}/Messages.json",
            body,
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
            },
        )

    async def check(self) -> Sequence[Finding]:
        """Ask with a message to nobody, which can't be sent, whether the login is taken."""
        reports = reports_finding(self.context.callback_url)
        try:
            _accepted(await self._post({"To": "", "Body": "", **self._from()}))
        except PermanentError as error:
            access = Finding(
                "access", True, f"the login isn't refused; empty request: {error.reply}"
            )
        except ProviderError as error:
            access = refused("access", error)
        else:
            access = Finding("access", True, "the login is taken")
        return (access, reports)

    def reports(self, request: CallbackRequest) -> Sequence[Report]:
        """Translate one status callback; progress up to the carrier is no report and gives none."""
        if len(request.body) > 65_536:
            raise InputError("twilio: the status callback is larger than 64 KiB")
        try:
            pairs = parse_qsl(
                request.body.decode(), keep_blank_values=True, max_num_fields=200, errors="strict"
            )
        except ValueError:
            raise InputError("twilio: the status callback isn't a form in UTF-8") from None
        self._check_signature(request, pairs)
        fields = dict(pairs)
        reference = fields.get("MessageSid") or fields.get("SmsSid") or ""
        status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
        if not re.fullmatch(r"\w{1,64}", reference) or not re.fullmatch(r"[a-z_-]{1,32}", status):
            raise InputError("twilio: the status callback lacks MessageSid or MessageStatus")
        if status in _UNDER_WAY:
            return ()
        code = fields.get("ErrorCode", "")
        code = code if re.fullmatch(r"\d{1,6}", code) else ""
        uids = parse_qs(urlsplit(request.url).query).get("uid", [])
        return (
            Report(
                reference=reference,
                status=_STATUS.get(status, "unknown"),
                detail=f"{status} {code}".strip(),
                uid=uids[0] if uids else None,
                address_is_bad=code in _BAD_ADDRESS,
            ),
        )

    def _check_signature(self, request: CallbackRequest, pairs: Sequence[tuple[str, str]]) -> None:
        """Source: www.twilio.com/docs/usage/security (validating requests).

        Behind a proxy the address we see may differ from the one Twilio was given, so the one it
        was given counts too.
        """
        headers = {name.lower(): value for name, value in request.headers.items()}
        given = headers.get("x-twilio-signature", "").encode("utf-8", "replace")
        query = urlsplit(request.url).query
        known = f"{self.context.callback_url}?{query}" if query else self.context.callback_url
        urls = {request.url, known} if self.context.callback_url else {request.url}
        key = self.settings.auth_token.get_secret_value()
        if not any(hmac.compare_digest(signature(key, url, pairs).encode(), given) for url in urls):
            raise InputError("twilio: the status callback's signature is wrong")


def signature(key: str, url: str, pairs: Sequence[tuple[str, str]]) -> str:
    """X-Twilio-Signature of a POST: base64 of HMAC-SHA1 over the URL and the sorted parameters."""
    text = url + "".join(name + value for name, value in sorted(set(pairs)))
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


# -- what the vendor's codes mean (www.twilio.com/docs/api/errors) ---------------------------------

_BAD_ADDRESS = frozenset({"21211", "21217", "21610", "21614", "21635", "30005", "30006"})
"""Not a number, unsubscribed, not a mobile, a landline, unknown at its carrier."""
_SENDER = frozenset({"21212", "21603", "21606", "21659", "21660", "21701", "21703"})
_BUSY = frozenset({"14107", "20429", "30001", "30022"})
_LOGIN = frozenset({"20003", "20005", "20404"})

_UNDER_WAY = frozenset({"accepted", "scheduled", "queued", "sending", "sent"})
_STATUS: dict[str, ReportStatus] = {
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "bounced",
    "failed": "bounced",
    "canceled": "bounced",
}


def _accepted(reply: HttpReply) -> Accepted:
    answer = reply.json()
    sid = str(answer.get("sid") or "")
    if reply.status in {200, 201} and sid:
        return Accepted(reference=sid, reply=without_addresses(str(answer.get("status") or "")))
    raise _fault(reply, str(answer.get("code") or ""), str(answer.get("message") or ""))


def _fault(reply: HttpReply, code: str, words: str) -> ProviderError:
    said = without_addresses(f"HTTP {reply.status} {code} {words}".strip())
    if reply.status == 429 or code in _BUSY:
        return too_many_requests("twilio", reply, said)
    if (reply.status in {401, 403, 404} and code not in _BAD_ADDRESS) or code in _LOGIN:
        return TransientError(
            f"twilio: access refused ({said}): check account_sid, auth_token and base_url in "
            f"{_SECTION}",
            reply=said,
            trouble="access",
        )
    if code in _SENDER:
        return TransientError(
            f"twilio: the sender is refused ({said}): correct sender or messaging_service_sid in "
            f"{_SECTION}",
            reply=said,
        )
    if reply.status == 503:
        return TransientError(
            "twilio: the service is down: it is tried again later",
            reply=said,
            retry_after=reply.retry_after(),
        )
    if 300 <= reply.status < 400:
        return TransientError(
            f"twilio: HTTP {reply.status}: check base_url in {_SECTION}", reply=said
        )
    if 400 <= reply.status < 500:
        return PermanentError(
            f"twilio: refused ({said})", reply=said, address_is_bad=code in _BAD_ADDRESS
        )
    return UnknownOutcomeError(
        f"twilio: the answer can't be read ({said}): look the message up in the console",
        reply=said,
    )
