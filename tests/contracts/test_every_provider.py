"""What every provider promises; a new file in workers/providers is picked up by itself."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from pydantic import SecretStr

import workers.providers
from workers.errors import InputError, PermanentError, ProviderError
from workers.providers import (
    CallbackRequest,
    Keep,
    Mail,
    Provider,
    ProviderContext,
    ProviderSettings,
    Sms,
    find_providers,
)

HEADINGS = ["API:", "Sends:", "Lost reply:", "Receipts:", "Limits:", "Errors:"]
UNITS = {"_s": "second", "_bytes": "byte", "_days": "day"}
FOUND = find_providers()

# Nobody listens on port 9 of this machine: what reaches for the network fails there at once.
NOWHERE = "http://127.0.0.1:9"
LEAST: dict[str, object] = {
    "host": "127.0.0.1",
    "port": 9,
    "tls": "none",
    "endpoint": NOWHERE,
    "base_url": NOWHERE,
    "access_key": "key",
    "secret_key": "canary-secret",
    "password": "canary-secret",
    "auth_token": "canary-secret",
    "account_sid": "AC1",
    "sender": "+14155550100",
    "templates": {"statement.reminder.en": {"id": "t", "variables": ["name"]}},
    "timeout_s": 1,
}

MAIL = Mail(
    "n-1",
    "due@sender.example",
    "canary@partner.example",
    "Subject",
    b"From: a@b.example\r\nTo: c@d.example\r\nSubject: s\r\nMessage-ID: <n-1@b.example>\r\n"
    b"Date: Tue, 24 Nov 2026 09:00:00 +0800\r\n\r\nbody\r\n",
)
SMS = Sms("n-1", "+8613800001111", "text", "statement.reminder.en", (("name", "Li Na"),), 1)
MESSAGES: dict[str, Mail | Sms] = {"mail": MAIL, "sms": SMS}

every_provider = pytest.mark.parametrize("provider", FOUND.values(), ids=FOUND)


class Shelf(Keep):
    """Keeps messages in memory, the same uid once."""

    def __init__(self) -> None:
        self.kept: dict[str, Mail | Sms] = {}

    async def keep(self, message: Mail | Sms) -> str:
        self.kept.setdefault(message.uid, message)
        return f"kept-{message.uid}"


def least_settings(provider: type[Provider]) -> ProviderSettings:
    fields = provider.Settings.model_fields
    return provider.Settings.model_validate({n: v for n, v in LEAST.items() if n in fields})


def made(provider: type[Provider], keep: Keep | None = None) -> Provider:
    context = ProviderContext(callback_url="https://due.example/r/secret", keep=keep)
    return provider(least_settings(provider), context)


def module_of(provider: type[Provider]) -> str:
    return provider.__module__


def test_the_four_providers_of_the_first_release_are_found() -> None:
    assert set(FOUND) >= {"inbox", "smtp", "huawei_sms", "twilio"}


def test_a_provider_is_named_like_its_file() -> None:
    assert {name: module_of(provider).rpartition(".")[2] for name, provider in FOUND.items()} == {
        name: name for name in FOUND
    }


@every_provider
def test_its_docstring_has_the_headings_in_order(provider: type[Provider]) -> None:
    doc = inspect.getdoc(importlib.import_module(module_of(provider))) or ""
    lines = [line for line in doc.splitlines() if line.split(":")[0] + ":" in HEADINGS]

    assert [line.split(":")[0] + ":" for line in lines] == HEADINGS
    assert all(line.partition(":")[2].strip() for line in lines)


@every_provider
def test_it_says_what_it_carries_and_whether_a_repeat_is_safe(provider: type[Provider]) -> None:
    assert provider.channels
    assert provider.channels <= {"mail", "sms"}
    assert isinstance(provider.repeat_is_safe, bool)


@every_provider
def test_each_setting_is_described_with_its_unit(provider: type[Provider]) -> None:
    for name, field in provider.Settings.model_fields.items():
        assert field.description, f"{name} has no description"
        assert field.description.endswith("."), f"{name}: a description is a sentence"
        for ending, unit in UNITS.items():
            if name.endswith(ending):
                assert unit in field.description.lower(), f"{name}: name its unit"


@every_provider
def test_secrets_are_not_shown(provider: type[Provider]) -> None:
    settings = least_settings(provider)

    assert "canary-secret" not in repr(settings) + str(settings.model_dump())
    for name in settings.__class__.model_fields:
        if any(word in name for word in ("password", "secret", "token")):
            assert isinstance(getattr(settings, name), SecretStr)


@every_provider
def test_an_unknown_setting_is_refused_by_name(provider: type[Provider]) -> None:
    known = {n: v for n, v in LEAST.items() if n in provider.Settings.model_fields}

    with pytest.raises(ValueError, match="no_such_key"):
        provider.Settings.model_validate({**known, "no_such_key": 1})


@every_provider
@pytest.mark.parametrize("channel", ["mail", "sms"])
async def test_a_send_that_fails_raises_an_outcome_without_personal_data(
    provider: type[Provider], channel: str
) -> None:
    sender = made(provider)
    await sender.open()
    try:
        with pytest.raises(ProviderError) as raised:
            await sender.send(MESSAGES[channel])
    finally:
        await sender.close()

    assert isinstance(raised.value, PermanentError) is (channel not in provider.channels)
    told = str(raised.value) + raised.value.reply
    for personal in ("canary", "13800001111", "Li Na"):
        assert personal not in told


@every_provider
async def test_it_can_be_closed_without_having_been_opened(provider: type[Provider]) -> None:
    await made(provider).close()


@every_provider
async def test_check_tells_what_is_wrong_and_how_to_mend_it(provider: type[Provider]) -> None:
    checked = made(provider)
    await checked.open()
    try:
        findings = await checked.check()
    finally:
        await checked.close()

    assert findings
    assert all(finding.what and finding.detail for finding in findings)
    assert all(bool(finding.remedy) is not finding.well for finding in findings)
    assert all("canary" not in str(finding) for finding in findings)


@every_provider
@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"{}", b"a=" + b"x" * 100_000])
def test_what_is_not_its_report_is_refused(provider: type[Provider], body: bytes) -> None:
    request = CallbackRequest("https://due.example/r/secret", {}, body)

    with pytest.raises(InputError, match=provider.name):
        made(provider).reports(request)


@every_provider
def test_its_answer_to_a_report_has_a_content_type(provider: type[Provider]) -> None:
    content_type, _ = made(provider).reports_answer()

    assert "/" in content_type


@every_provider
def test_it_raises_no_error_by_another_name(provider: type[Provider]) -> None:
    path = Path(inspect.getfile(provider))
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    outcomes = {"TransientError", "PermanentError", "UnknownOutcomeError"}

    assert {name for name in raised if not name.startswith("_")} <= outcomes | {
        "InputError",
        "SettingsError",
        "ValueError",
    }


async def test_the_inbox_keeps_both_channels_and_the_same_message_once() -> None:
    shelf = Shelf()
    inbox = made(FOUND["inbox"], shelf)

    first = await inbox.send(MAIL)
    again = await inbox.send(MAIL)

    assert first.reference == again.reference == "kept-n-1"
    assert shelf.kept == {"n-1": MAIL}
    assert (await inbox.send(Sms("n-2", SMS.number, "t", "x", (), 1))).reference == "kept-n-2"


def test_shared_parts_are_not_taken_for_providers() -> None:
    files = {path.stem for path in Path(workers.providers.__file__).parent.glob("*.py")}

    assert {name for name in files if not name.startswith("_")} == set(FOUND)
