"""A mail as bytes: what a reader's parser finds in it, and what can't be smuggled in."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.render.mail import Attachment, Draft, UnsafeMailError, build, display_name, mailbox

NAME = "开票清单_SFD20261100017.xlsx"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
DRAFT = Draft(
    uid="0196f3-7a",
    domain="due.example.com",
    sender_name="伙伴中心提醒",
    sender_address="no-reply@due.example.com",
    recipient_name="王晓明",
    recipient_address="wang@example.com",
    subject="3 笔申付单待处理发票，合计 ¥135,461.76，请按开票清单开具发票并登记发票号码",
    date=datetime(2026, 11, 24, 1, 0, tzinfo=UTC),
    language="zh-CN",
    text="您好，\n.\n请查收。\n",
    html="<p>您好</p>\r\n.\r\n<p>请查收。</p>",
    attachments=(Attachment(NAME, XLSX, bytes(range(256)) * 40),),
    reply_to="生态经理 <care@example.com>",
    unsubscribe_url="https://due.example.com/u/abc",
)
PLANNED = [
    *("From", "To", "Subject", "Date", "Message-ID", "Reply-To", "Auto-Submitted"),
    *("X-Duewatch-Attempt", "Content-Language", "List-Unsubscribe", "List-Unsubscribe-Post"),
    *("MIME-Version", "Content-Type"),
]
INJECTIONS = [
    "A\r\nBcc: eve@example.com",
    "A\nBcc: eve@example.com",
    "A\rBcc: eve@example.com",
    "A =?UTF-8?Q?=0A?=Bcc: eve@example.com",
    "A =?UTF-8?Q?=0A?= B",
    "A\x85Bcc: eve@example.com",
    "A\u2028Bcc: eve@example.com",
    "A\x00B",
    "A\r\n\r\n<p>another body</p>",
    "\ud800",
]


def parsed(source: bytes) -> EmailMessage:
    """The message as the standard library's strict parser reads it, without any defect."""
    message = email.message_from_bytes(source, policy=email.policy.SMTP.clone(raise_on_defect=True))
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
        for name in part.keys():  # noqa: SIM118  a message is no mapping: `in` looks for headers
            assert part[name].defects == ()
    return message


def test_a_mail_is_read_back_as_it_was_written() -> None:
    message = parsed(build(DRAFT))
    text = message.get_body(("plain",))
    page = message.get_body(("html",))

    assert message.keys() == PLANNED
    assert message["Subject"] == DRAFT.subject
    assert message["To"].addresses[0].display_name == "王晓明"
    assert message["To"].addresses[0].addr_spec == "wang@example.com"
    assert message["Reply-To"].addresses[0].display_name == "生态经理"
    assert message["Message-ID"] == "<0196f3-7a@due.example.com>"
    assert message["Date"].datetime == DRAFT.date
    assert text is not None
    assert text.get_payload(decode=True) == DRAFT.text.encode()
    assert page is not None
    assert page.get_payload(decode=True) == DRAFT.html.encode()


def test_attachments_keep_their_names_and_octets() -> None:
    long = "开票清单_" + "很长的付款申请单号" * 8 + "✓.pdf"
    names = [NAME, "invoice-list_PAY-1.pdf", long, "a'b%20c.pdf"]
    files = tuple(Attachment(name, XLSX, name.encode()) for name in names)
    source = build(replace(DRAFT, attachments=files))
    found = list(parsed(source).iter_attachments())

    assert [part.get_filename() for part in found] == names
    assert [part.get_payload(decode=True) for part in found] == [name.encode() for name in names]
    assert b"filename*0*=utf-8''%E5%BC%80%E7%A5%A8" in source  # RFC 2231


def test_lines_end_in_crlf_and_stay_short() -> None:
    source = build(DRAFT)

    assert source.count(b"\r\n") == source.count(b"\n") == source.count(b"\r")
    assert max(map(len, source.split(b"\r\n"))) <= 80  # a spreadsheet's media type alone takes 66
    assert b"\r\n.\r\n" not in source  # SMTP would take it for the end


def test_a_mail_without_files_is_an_alternative_and_keeps_the_order() -> None:
    message = parsed(build(replace(DRAFT, attachments=())))

    assert message.get_content_type() == "multipart/alternative"
    parts = [part.get_content_type() for part in message.iter_parts()]
    assert parts == ["text/plain", "text/html"]  # RFC 2046: the best comes last


def test_the_same_draft_gives_the_same_bytes() -> None:
    later = replace(DRAFT, date=datetime(2026, 11, 25, tzinfo=UTC), attempt=2)

    def rest(source: bytes) -> bytes:
        return re.sub(rb"(?m)^(Date|X-Duewatch-Attempt): .*\r\n", b"", source)

    assert build(DRAFT) == build(DRAFT)
    assert build(later) != build(DRAFT)
    assert rest(build(later)) == rest(build(DRAFT))
    assert rest(build(replace(DRAFT, uid="another"))) != rest(build(DRAFT))


def test_one_click_is_promised_over_https_only() -> None:
    plain = parsed(build(replace(DRAFT, unsubscribe_url="http://127.0.0.1:8080/u/abc")))
    none = parsed(build(replace(DRAFT, unsubscribe_url="", reply_to="")))

    assert parsed(build(DRAFT))["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert plain["List-Unsubscribe"] == "<http://127.0.0.1:8080/u/abc>"
    assert plain["List-Unsubscribe-Post"] is None
    assert "List-Unsubscribe" not in none
    assert "Reply-To" not in none


@pytest.mark.parametrize("field", ["subject", "unsubscribe_url", "uid", "domain", "language"])
@pytest.mark.parametrize("value", INJECTIONS)
def test_what_could_end_a_header_is_refused(field: str, value: str) -> None:
    with pytest.raises(UnsafeMailError):
        build(replace(DRAFT, **{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example>\r\nRCPT TO:<eve@example.com",
        "a@example.com, eve@example.com",
        "a@example.com\nBcc: eve@example.com",
        "<a@example.com>",
        '"a b"@example.com',
        "no address",
        "",
        "a@example.com\x00",
    ],
)
@pytest.mark.parametrize("field", ["recipient_address", "sender_address"])
def test_an_address_that_says_more_than_one_address_is_refused(field: str, address: str) -> None:
    with pytest.raises(UnsafeMailError):
        build(replace(DRAFT, **{field: address}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ceo@bank.example", "王\u202e明", *INJECTIONS])
def test_a_name_that_could_deceive_is_left_out(name: str) -> None:
    message = parsed(build(replace(DRAFT, recipient_name=name)))

    assert message.keys() == PLANNED
    assert message["To"].addresses[0].display_name == ""
    assert message["To"].addresses[0].addr_spec == "wang@example.com"


def test_names_with_quotes_commas_and_brackets_stay_names() -> None:
    for name in ('Lee, "Ann" <finance>', "Müller & Söhne (GmbH)", "a\\b", "x" * 100):
        to = parsed(build(replace(DRAFT, recipient_name=name)))["To"]
        assert [(a.display_name, a.addr_spec) for a in to.addresses] == [(name, "wang@example.com")]


def test_a_domain_beyond_ascii_is_written_in_its_ascii_form() -> None:
    message = parsed(build(replace(DRAFT, recipient_address="wang@例子.中国")))

    assert message["To"].addresses[0].domain == "xn--fsqu00a.xn--fiqs8s"


def test_a_file_name_with_a_path_is_refused() -> None:
    for name in ("../../etc/passwd", "a\\b.xlsx", 'a".xlsx', "a\r\nb.xlsx", "\u202excod.exe", ""):
        with pytest.raises(UnsafeMailError):
            build(replace(DRAFT, attachments=(Attachment(name, XLSX, b""),)))


def test_a_sender_is_read_with_and_without_a_name() -> None:
    assert mailbox('"Due, watch" <a@b.example>') == ("Due, watch", "a@b.example")
    assert mailbox("伙伴 <a@b.example>") == ("伙伴", "a@b.example")
    assert mailbox("a@b.example") == ("", "a@b.example")
    with pytest.raises(UnsafeMailError, match="write it like Name"):
        mailbox("a <b> c")


DANGEROUS = st.text(
    st.one_of(
        st.sampled_from("\r\n\0\t\x0b\x0c\x1b\x7f\x85\u2028\u2029\u202e=?_:;<>@,\"'\\() %*"),
        st.characters(),
    ),
    max_size=120,
) | st.sampled_from(INJECTIONS)


@settings(max_examples=600, deadline=None)
@example(field="subject", value="A 💩 subject=?UTF-8?Q?=0A?=Bcc: injected@example.com")
@given(
    field=st.sampled_from(
        [
            *("subject", "text", "html", "uid", "domain", "language", "filename", "reply_to"),
            *("recipient_name", "sender_name", "recipient_address", "sender_address"),
            "unsubscribe_url",
        ]
    ),
    value=DANGEROUS,
)
def test_no_field_can_add_a_header_or_a_part(field: str, value: str) -> None:
    changed: dict[str, Any] = {field: value}
    if field == "filename":
        changed = {"attachments": (Attachment(value, XLSX, b"x"),)}
    try:
        source = build(replace(DRAFT, **changed))
    except UnsafeMailError:
        return
    message = email.message_from_bytes(source, policy=email.policy.SMTP)
    optional = {"Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post"}

    assert [n for n in message.keys() if n not in optional] == [  # noqa: SIM118
        n for n in PLANNED if n not in optional
    ]
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", XLSX]
    assert b"\nbcc:" not in source.lower()


@given(st.text(max_size=150))
def test_a_display_name_never_holds_an_address_or_a_control(name: str) -> None:
    shown = display_name(name)

    assert not re.search(r"[@\x00-\x1f\x7f-\x9f\u202a-\u202e]", shown)
    assert len(shown) <= 100


class Smuggled(str):
    """A language tag that reads well when it is checked and carries a header when it is written."""

    def __format__(self, spec: str) -> str:
        return "en\r\nBcc: eve@example.com"


def test_a_header_that_slips_past_every_check_is_seen_in_the_finished_bytes() -> None:
    with pytest.raises(UnsafeMailError, match="hasn't the planned headers"):
        build(replace(DRAFT, language=Smuggled("en")))
