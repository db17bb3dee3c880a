"""Huawei Cloud Message & SMS by REST.

API:         support.huaweicloud.com/api-msgsms/sms_05_0002.html (batchSendDiffSms, AK/SK)
Sends:       POST {endpoint}/sms/batchSendDiffSms/v1, one number a request, SDK-HMAC-SHA256
Lost reply:  unknown: there is no idempotency key; a report that comes later tells
Receipts:    POSTed form, unauthenticated, one a part, up to 72 hours; `extend` brings back our uid
Limits:      only approved templates, at most 20 variables of 1 to 20 characters; clock ±15 minutes
Errors:      no key, quota or route is transient (it hits all alike); a bad message is permanent
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

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
from workers.sms import fit_variable, is_figure
from workers.vendor_signature import sign

_PATH = "/sms/batchSendDiffSms/v1"
_SECTION = "[providers.huawei_sms]"
ReportStatus = Literal["delivered", "bounced", "complained", "unknown"]
_EXTEND = re.compile(r"[^{}\s]{1,128}")


class Template(BaseModel):
    """One approved template: its id at the vendor, and our variables in the template's order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=32, description="Template id from the SMS console.")
    variables: tuple[str, ...] = Field(
        (),
        max_length=20,
        description="Names of our variables, in the order of the template's placeholders.",
    )
    signature: str = Field(
        "",
        max_length=30,
        description="Signature of this template; empty takes the provider's `signature`.",
    )


class HuaweiSmsSettings(ProviderSettings):
    """Access to the SMS application, and the approved template of each message."""

    endpoint: Annotated[str, AfterValidator(check_base_url)] = Field(
        "https://smsapi.cn-north-4.myhuaweicloud.com",
        description="Application access address from the SMS console; https.",
    )
    access_key: str = Field(
        min_length=1, max_length=128, description="Access key (AK), or the application key."
    )
    secret_key: SecretStr = Field(
        min_length=1, description="Secret key (SK), or the application secret."
    )
    sender: str = Field(
        min_length=1, max_length=21, description="Channel number of the approved signature."
    )
    signature: str = Field(
        "",
        max_length=30,
        description="Approved signature without 【】; sent along for general templates.",
    )
    templates: dict[str, Template] = Field(
        default_factory=dict,
        description="Approved template of each message, like `payment.reminder.zh-CN`.",
    )
    timeout_s: PostTimeout = 15


def _utc_now() -> datetime:
    return datetime.now(UTC)


class HuaweiSms(SmsByPost):
    """Sends approved templates, one number a request, so that one bad number harms only itself."""

    name: ClassVar[str] = "huawei_sms"
    Settings: ClassVar[type[ProviderSettings]] = HuaweiSmsSettings

    settings: HuaweiSmsSettings

    def __init__(
        self,
        settings: ProviderSettings,
        context: ProviderContext,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`clock` gives the signature's time: the vendor refuses what is 15 minutes off."""
        super().__init__(settings, context)
        self._clock = clock
        self._http = HttpPoster(self.name, self.settings.timeout_s)

    async def send(self, message: Mail | Sms) -> Accepted:
        """Send one SMS by its approved template; the reference is the vendor's smsMsgId."""
        sms = self.sms(message)
        content = self._content(sms)
        body = {"from": self.settings.sender, "extend": sms.uid, "smsContent": [content]}
        if self.context.callback_url:
            body["statusCallback"] = self.context.callback_url
        return _accepted(await self._post(body))

    def _content(self, message: Sms) -> dict[str, object]:
        if not _EXTEND.fullmatch(message.uid):
            raise PermanentError("the uid can't go in `extend`: 1 to 128 characters, no braces")
        template = self.settings.templates.get(message.template)
        if template is None:
            raise PermanentError(
                f"no approved template for {message.template}: set templates."
                f'"{message.template}" in {_SECTION} to its id and variables'
            )
        values = dict(message.variables)
        content: dict[str, object] = {
            "to": [message.number],
            "templateId": template.id,
            "templateParas": [
                _variable(name, values, message.template) for name in template.variables
            ],
        }
        if signature := template.signature or self.settings.signature:
            content["signature"] = signature
        return content

    async def _post(self, body: Mapping[str, object]) -> HttpReply:
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        url = self.settings.endpoint + _PATH
        headers = sign(
            "POST",
            url,
            {"Content-Type": "application/json;charset=UTF-8"},
            data,
            self.settings.access_key,
            self.settings.secret_key.get_secret_value(),
            self._clock(),
        )
        return await self._http.post(url, data, headers)

    async def check(self) -> Sequence[Finding]:
        """Ask with an empty list of messages, which sends nothing, whether the keys are taken."""
        findings = [
            Finding("templates", True, f"{len(self.settings.templates)} approved templates are set")
            if self.settings.templates
            else Finding(
                "templates",
                False,
                "no template is set, so no SMS can be sent",
                f"add [providers.huawei_sms.templates] entries with id and variables to {_SECTION}",
            ),
            reports_finding(self.context.callback_url),
        ]
        try:
            reply = await self._post(
                {"from": self.settings.sender, "extend": "check", "smsContent": []}
            )
            _accepted(reply)
        except ProviderError as error:
            # An empty request is answered by "wrong form" once the keys are taken.
            if isinstance(error, PermanentError) or " E000000" in error.reply:
                told = f"the keys aren't refused; empty request: {error.reply}"
                return [*findings, Finding("access", True, told)]
            findings.append(refused("access", error))
        return findings

    def reports(self, request: CallbackRequest) -> Sequence[Report]:
        """Translate one status report.

        Reports aren't authenticated: that the path can't be guessed is the only check, and a
        repeated one says the same again.
        """
        if len(request.body) > 16_384:
            raise InputError("huawei_sms: the status report is larger than 16 KiB")
        try:
            fields = dict(parse_qsl(request.body.decode(), max_num_fields=40))
        except ValueError:
            raise InputError("huawei_sms: the status report isn't a form in UTF-8") from None
        status, reference = fields.get("status", ""), fields.get("smsMsgId", "")
        if not _CODE.fullmatch(status) or not 1 <= len(reference) <= 100:
            raise InputError("huawei_sms: the status report lacks smsMsgId or status")
        uid = fields.get("extend", "")
        parts = _ordinal(fields.get("total", "1"))
        meaning, bad = _meaning(status)
        return (
            Report(
                reference=reference,
                status=meaning,
                detail=f"{status} (source {_SOURCES.get(fields.get('source', ''), 'not stated')})",
                at=_utc(fields.get("updateTime")),
                uid=uid if _EXTEND.fullmatch(uid) else None,
                part=min(_ordinal(fields.get("sequence", "1")), parts),
                parts=parts,
                address_is_bad=bad,
            ),
        )


def _variable(name: str, values: Mapping[str, str], template: str) -> str:
    place = f'variable "{name}" of templates."{template}"'
    if name not in values:
        raise PermanentError(
            f"{place} isn't one of the message's ({', '.join(values) or 'it has none'}): "
            f"correct `variables` in {_SECTION}"
        )
    value = values[name]
    if not is_figure(value):
        value = value.translate(_REFUSED_IN_TEXT)
    try:
        return fit_variable(value)
    except ValueError as error:
        raise PermanentError(f"{place} {error}: shorten it at its source") from None


# Text variables take none of these (the vendor's variable rules); the look-alikes pass.
_REFUSED_IN_TEXT = str.maketrans(
    {".": "", "。": " ", "'": "’", "<": "〈", ">": "〉", "{": "（", "}": "）"}
)


# -- what the vendor's codes mean (sms_05_0050, sms_05_0051) -----------------------------------

_REMEDIES = {
    "E000112": "the account is frozen: top it up or have it released in the console",
    "E000620": "add this machine's IP address to the application's white list; it takes 15 minutes",
    "E000623": "the day's or month's quota is used up: raise the threshold in the console",
    "E200015": "too many messages are queued at the vendor: it is tried again later",
    "E200018": f"the channel number isn't the application's: correct `sender` in {_SECTION}",
    "E200023": "the vendor finds no channel: look whether the signature is activated",
    "E200027": "the vendor finds no route: look whether the signature is activated",
    "E200030": "the template isn't activated: activate it in the SMS console",
    "E200036": "the channel's rate is set to 0: ask the vendor's support",
}
"""Codes that hit all messages alike, so that none is failed for good, and what mends them."""

_FAULTS = {
    "E000503": "a parameter has the wrong form",
    "E200028": "the variables don't fit the template",
    "E200029": "the template's type doesn't fit the channel",
    "E200033": "the template's type is wrong",
    "E200041": "the number stands twice in the request",
}
_ACCESS = re.compile(r"E000(0(?!00)\d\d|1\d\d)|APIGW\.03(01|05|07)")
_KEYS = f"check access_key and secret_key in {_SECTION} and this machine's clock"


def _accepted(reply: HttpReply) -> Accepted:
    answer = reply.json()
    code = str(answer.get("code") or answer.get("error_code") or "")
    words = str(answer.get("description") or answer.get("error_msg") or "")
    results = answer.get("result")
    item = results[0] if isinstance(results, list) and results else {}
    if isinstance(item, dict) and item and code in {"000000", "E000510"}:
        code = str(item.get("status", ""))
        reference = str(item.get("smsMsgId", ""))
        if code == "000000" and reference:
            return Accepted(reference=reference, reply="000000 accepted")
    raise _fault(reply, code, without_addresses(words))


def _fault(reply: HttpReply, code: str, words: str) -> ProviderError:
    said = without_addresses(f"HTTP {reply.status} {code} {words}".strip())
    if code in _REMEDIES:
        return TransientError(f"huawei_sms: {code}: {_REMEDIES[code]}", reply=said)
    if reply.status == 429:
        return too_many_requests("huawei_sms", reply, said)
    if reply.status in {401, 403} or _ACCESS.fullmatch(code):
        return TransientError(
            f"huawei_sms: access refused ({said}): {_KEYS}", reply=said, trouble="access"
        )
    if reply.status in {404, 405} or 300 <= reply.status < 400:
        return TransientError(
            f"huawei_sms: HTTP {reply.status}: check `endpoint` in {_SECTION}", reply=said
        )
    if reply.status == 503 or (code and code != "000000" and reply.status >= 500):
        return TransientError(_system_failed(said), reply=said, retry_after=reply.retry_after())
    if code == "E000000":
        return TransientError(_system_failed(said), reply=said)
    if code == "000000" or reply.status >= 500 or (reply.status < 300 and not code):
        return UnknownOutcomeError(
            f"huawei_sms: the answer can't be read ({said}): look the message up in the console",
            reply=said,
        )
    return PermanentError(f"huawei_sms: {_FAULTS.get(code, 'refused')} ({said})", reply=said)


def _system_failed(said: str) -> str:
    return f"huawei_sms: the vendor's system failed ({said}): it is tried again later"


_SOURCES = {"1": "SMS platform", "2": "carrier", "3": "Huawei"}
_CODE = re.compile(r"[\w:.-]{1,40}", re.ASCII)
_OPTED_OUT = frozenset({"BLACK", "MBBLACK", "TDBLACK", "TSBLACK", "SC:0016"})
# The carriers' code for a number that was never given out (3GPP TS 29.002 error 1).
_NO_SUCH_NUMBER = frozenset({"MK:0001"})
_FAILED = frozenset(
    {"EXPIRED", "DELETED", "UNDELIV", "UNDELIVE", "REJECTD"}
    | {"MILIMIT", "LIMIT", "BEYONDN", "CTLIMIT", "KEYWORD"}
)
_FAILED_CODE = re.compile(r"E\d{6}|[A-Z]{1,3}:\d{3,4}|-?\d{1,5}(:\d{1,4})?")


def _meaning(status: str) -> tuple[ReportStatus, bool]:
    """What a status says, and whether the number must not be written to again.

    A word that isn't known stays `unknown`; the detail keeps it.
    """
    if status == "DELIVRD":
        return "delivered", False
    if status in _OPTED_OUT:
        return "complained", True
    if status in _NO_SUCH_NUMBER:
        return "bounced", True
    if status in _FAILED or _FAILED_CODE.fullmatch(status):
        return "bounced", False
    return "unknown", False


def _ordinal(text: str) -> int:
    """A part number; SMS has at most 255 parts (3GPP TS 23.040 9.2.3.24.1)."""
    return min(max(int(text), 1), 255) if text.isdecimal() and len(text) < 4 else 1


def _utc(text: str | None) -> datetime | None:
    """The vendor's time, UTC; reports made up by its platform carry none."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
