"""What the three rules say of a record: its state, its deadline, and which stages are for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schedules import load_rules
from schedules.calendar import WorkingCalendar
from schedules.rule import Contact, Deadline, Effect, Partner, Record, State
from schedules.rules.invitation import InvitationData
from schedules.rules.statement import StatementData

CALENDAR = WorkingCalendar.load()
RULES = load_rules()
SENT = datetime(2026, 11, 20, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def record_of(kind: str, data: Any, lines: Sequence[Any] = ()) -> Record:
    rule = RULES[kind]
    return rule.record(
        data, Partner(data.partner, "青禾云", account_authenticated=False), CALENDAR, lines
    )


def stages_of(record: Record) -> list[str]:
    rule = RULES[record.kind]
    return [one.name for one in rule.cadence.stages if rule.applies(one, record) is None]


def contact(ref: str, role: str) -> Contact:
    return Contact(ref=ref, partner="P1", role=role, name=ref, mail=f"{ref}@example.com".lower())


# --- finding the rules


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "made_up_rules"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    yield folder
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("made_up_rules")]:
        del sys.modules[name]


COPY = "from schedules.rules.payment import Payment\nclass Other(Payment):\n    kind = {kind!r}\n"


def test_each_rule_is_found_under_its_kind() -> None:
    assert {"invitation", "statement", "payment"} <= RULES.keys()
    assert all(rule.kind == kind for kind, rule in RULES.items())


def test_a_new_file_is_a_new_rule_and_imported_rules_dont_count(package: Path) -> None:
    (package / "voucher.py").write_text(COPY.format(kind="voucher"))
    (package / "_words.py").write_text("nothing = 0")

    assert list(load_rules("made_up_rules")) == ["voucher"]


def test_two_files_with_one_kind_are_refused(package: Path) -> None:
    (package / "one.py").write_text(COPY.format(kind="voucher"))
    (package / "two.py").write_text(COPY.format(kind="voucher"))

    with pytest.raises(ValueError, match=r"two.py and .*one.py both have the kind 'voucher'"):
        load_rules("made_up_rules")


def test_a_file_without_a_rule_is_refused(package: Path) -> None:
    (package / "empty.py").write_text("from schedules.rules.payment import Payment\n")

    with pytest.raises(ValueError, match=r"empty.py has 0 rules: write exactly one"):
        load_rules("made_up_rules")


def test_a_named_role_without_its_field_is_refused(package: Path) -> None:
    wrong = COPY.format(kind="voucher") + "    named_roles = {'ownr': 'sales'}\n"
    (package / "voucher.py").write_text(wrong)

    with pytest.raises(ValueError, match=r"voucher.py names the role 'ownr' .* correct the name"):
        load_rules("made_up_rules")


@pytest.mark.parametrize("kind", sorted(RULES))
def test_every_sample_can_be_read_and_is_open(kind: str) -> None:
    rule = RULES[kind]
    samples = rule.samples(datetime(2026, 11, 24, 1, tzinfo=UTC))

    assert len(samples) >= 3
    for sample in samples:
        lines = [rule.Line(**line) for line in sample.lines] if rule.Line else []
        record = record_of(kind, rule.Data(**sample.data), lines)
        assert record.assessment.state is State.OPEN, record
        assert {"ref", "url", "deadline", "effect"} <= rule.view(record).keys()


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in {bool, int, str, Decimal, datetime}


@pytest.mark.parametrize("kind", sorted(RULES))
def test_templates_get_plain_values_only(kind: str) -> None:
    rule = RULES[kind]
    for sample in rule.samples(datetime(2026, 11, 24, 1, tzinfo=UTC)):
        lines = [rule.Line(**line) for line in sample.lines] if rule.Line else []
        assert plain(rule.view(record_of(kind, rule.Data(**sample.data), lines)))


# --- invitations


def invitation(**changes: Any) -> Record:
    data = {
        "ref": "YQ1",
        "partner": "P1",
        "customer_name": "星岸",
        "customer_mail": "it@example.com",
        "customer_mobile": "13800138000",
        "origin": "ONLINE",
        "sent_at": SENT,
    }
    return record_of("invitation", InvitationData(**{**data, **changes}))


def test_a_link_that_the_system_mailed_lives_seven_times_24_hours() -> None:
    assert invitation().deadline == Deadline(SENT + 7 * DAY, Effect.LINK_DIES)


def test_an_activity_link_lives_through_the_last_day_of_its_activity() -> None:
    record = invitation(origin="活动邀请", activity_ends_at="2026-12-05")

    assert record.deadline == Deadline(datetime(2026, 12, 5, 16, tzinfo=UTC), Effect.LINK_DIES)


def test_an_activity_end_with_a_time_is_that_time() -> None:
    record = invitation(origin="ACTIVITY", activity_ends_at="2026-12-05 18:00")

    assert record.deadline.at == datetime(2026, 12, 5, 10, tzinfo=UTC)


def test_an_activity_link_without_an_end_is_held() -> None:
    record = invitation(origin="ACTIVITY")

    assert record.assessment.state is State.HELD
    assert "activity_ends_at" in record.assessment.why


@pytest.mark.parametrize(
    "origin", ["OFFLINE_UNIVERSAL", "OFFLINE_CUSTOM", "QR", "通用邀请链接", "自定义链接", "二维码"]
)
def test_an_offline_link_never_expires_but_its_registration_does(origin: str) -> None:
    endless = invitation(origin=origin)
    clocked = invitation(origin=origin, registered_at=SENT - DAY)

    assert endless.deadline == Deadline(None)
    assert stages_of(endless) == []
    assert clocked.deadline == Deadline(SENT + 14 * DAY, Effect.REGISTRATION_ENDS)
    assert stages_of(clocked) == ["T-72h", "T-24h", "expired"]


@pytest.mark.parametrize(
    ("days_before", "deadline"),
    [
        (12, Deadline(SENT + 3 * DAY, Effect.REGISTRATION_ENDS)),
        (8, Deadline(SENT + 7 * DAY, Effect.LINK_DIES)),
        (1, Deadline(SENT + 7 * DAY, Effect.LINK_DIES)),
    ],
)
def test_the_earlier_of_link_and_registration_counts(days_before: int, deadline: Deadline) -> None:
    assert invitation(registered_at=SENT - days_before * DAY).deadline == deadline


def test_a_registration_end_that_is_given_beats_the_fifteen_days() -> None:
    record = invitation(registered_at=SENT, registration_expires_at="2026-11-22")

    assert record.deadline.at == datetime(2026, 11, 22, 16, tzinfo=UTC)


@pytest.mark.parametrize("status", ["ACCEPTED", "REVOKED", "已关联", "已撤销"])
def test_an_invitation_accepted_or_revoked_is_closed(status: str) -> None:
    assert invitation(status=status).assessment.state is State.CLOSED


def test_a_dead_link_is_told_to_the_inviter_alone_and_from_when_it_was_known() -> None:
    record = invitation(status="已过期", updated_at=SENT + DAY)

    assert record.assessment.state is State.OPEN
    assert record.deadline.at == SENT + DAY
    assert stages_of(record) == ["expired"]


def test_a_link_known_to_be_dead_later_still_died_when_it_did() -> None:
    assert invitation(status="EXPIRED", updated_at=SENT + 9 * DAY).deadline.at == SENT + 7 * DAY


@pytest.mark.parametrize(
    "reason",
    ["邀请链接已失效", "链接不存在", "邀请码已被使用", "LINK_EXPIRED", "the code was used"],
)
def test_a_failure_that_can_be_tried_again_is_told_to_the_inviter(reason: str) -> None:
    record = invitation(origin="QR", status="FAILED", failure_reason=reason)

    assert record.assessment.state is State.OPEN
    assert record.deadline.at == SENT
    assert stages_of(record) == ["expired"]


@pytest.mark.parametrize(
    "reason",
    ["已被其他伙伴报备", "欠费", "registered by another partner", "MEMBER_ACCOUNT", "内部账号"],
)
def test_a_final_failure_is_the_last_word_on_the_invitation(reason: str) -> None:
    record = invitation(status="关联失败", failure_reason=reason)

    assert record.assessment.state is State.OPEN
    assert record.assessment.last_word
    assert reason in record.assessment.why
    assert stages_of(record) == ["failed"]


@pytest.mark.parametrize("reason", [None, "refused"])
def test_a_failure_for_an_unknown_reason_is_held(reason: str | None) -> None:
    record = invitation(status="FAILED", failure_reason=reason)

    assert record.assessment.state is State.HELD
    assert "failure_reason" in record.assessment.why


def test_a_reissued_invitation_climbs_a_new_ladder() -> None:
    assert invitation().ladder != invitation(attempt_no=2).ladder


def test_the_customer_comes_from_the_record_and_the_inviter_from_the_contacts() -> None:
    rule, contacts = RULES["invitation"], [contact("C1", "sales"), contact("C2", "finance")]
    record = invitation(inviter="C2", customer_language="en", customer_mail="a***@example.com")

    (customer,) = rule.recipients("customer", record, contacts)
    assert (customer.ref, customer.language) == ("customer:YQ1", "en")
    assert customer.address("mail") is None
    assert customer.address("sms") == "+8613800138000"
    assert [one.ref for one in rule.recipients("inviter", record, contacts)] == ["C2"]
    for nobody in (invitation(), invitation(inviter="C9")):
        assert [one.ref for one in rule.recipients("inviter", nobody, contacts)] == ["C1"]
    assert [one.ref for one in rule.recipients("finance", record, contacts)] == ["C2"]


def test_words_for_the_customer_reach_nobody_else() -> None:
    tells = [tell for one in RULES["invitation"].cadence.stages for tell in one.tell]

    assert {tell.or_else for tell in tells if tell.message == "customer"} == {"customer"}


@pytest.mark.parametrize(("word", "value"), [("1", "REFERRAL"), ("代售", "RESALE"), ("", None)])
def test_association_types_are_read_by_number_and_name(word: str, value: str | None) -> None:
    view = RULES["invitation"].view(invitation(association_type=word))

    assert view["association_type"] == value


def test_a_wrong_association_type_lists_what_may_be_written() -> None:
    with pytest.raises(ValidationError, match=r"must be one of REFERRAL \(顾问销售\)"):
        invitation(association_type="直销")


def test_the_view_says_what_ends() -> None:
    rule = RULES["invitation"]

    assert rule.view(invitation())["ends"] == "link"
    assert rule.view(invitation(origin="QR", registered_at=SENT))["ends"] == "registration"
    assert rule.view(invitation(origin="QR"))["ends"] is None


# --- statements


def statement(**changes: Any) -> Record:
    data = {
        "ref": "DZ1",
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "generated_at": SENT,
        "confirm_by": date(2026, 12, 4),
        "amount_incl_tax": "100.00",
    }
    return record_of("statement", StatementData(**{**data, **changes}))


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("INCENTIVE", Effect.AUTO_CONFIRM),
        ("机会点激励", Effect.AUTO_CONFIRM),
        ("专职人员激励", Effect.FORFEIT),
        ("ACTIVITY", Effect.FORFEIT),
        ("采购介入类", Effect.BLOCK),
        ("云商店", Effect.BLOCK),
    ],
)
def test_the_kind_of_a_statement_decides_what_happens_at_its_end(kind: str, effect: Effect) -> None:
    record = statement(statement_kind=kind)

    assert record.deadline == Deadline(datetime(2026, 12, 4, 16, tzinfo=UTC), effect)
    assert RULES["statement"].view(record)["effect"] == effect.value


@pytest.mark.parametrize(
    ("kind", "generated_at", "last_day", "provisional"),
    [
        ("FH", "2026-11-20 10:00", date(2026, 12, 10), False),
        ("FH", "2026-09-21 10:00", date(2026, 10, 16), False),
        ("FH", "2026-02-12 23:30", date(2026, 3, 10), False),
        ("ACTIVITY", "2026-08-03 10:00", date(2026, 9, 28), False),
        ("FH", "2026-12-20 10:00", date(2027, 1, 7), True),
    ],
)
def test_a_lapsing_statement_counts_working_days_from_its_generation(
    kind: str, generated_at: str, last_day: date, provisional: bool
) -> None:
    record = statement(statement_kind=kind, confirm_by=None, generated_at=generated_at)

    end = datetime(last_day.year, last_day.month, last_day.day, 16, tzinfo=UTC)
    assert record.deadline == Deadline(end, Effect.FORFEIT, provisional)


@pytest.mark.parametrize("kind", ["EI_PROCUREMENT", "KOOGALLERY", "INCENTIVE"])
def test_a_statement_without_a_date_climbs_from_its_generation(kind: str) -> None:
    record = statement(statement_kind=kind, confirm_by=None)

    assert record.deadline.at is None
    assert stages_of(record) == ["+1", "+3", "+7"]


def test_only_a_settlement_that_waits_is_called_to_mind_after_its_date() -> None:
    assert stages_of(statement()) == ["T-5", "T-2", "T-0", "ended"]
    waits = statement(statement_kind="EI_PROCUREMENT")
    assert stages_of(waits) == ["T-5", "T-2", "T-0", "ended", "waiting"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status": "预估"}, State.WAITING),
        ({"status": "待确认"}, State.OPEN),
        ({"status": "有异议"}, State.PAUSED),
        ({"feedback_open": "是"}, State.PAUSED),
        ({"status": "已确认"}, State.CLOSED),
        ({"status": "发放中", "feedback_open": "是"}, State.CLOSED),
        ({"status": "发放成功"}, State.CLOSED),
        ({"status": "激励失效"}, State.CLOSED),
        ({"status": "CANCELLED"}, State.CLOSED),
    ],
)
def test_the_status_of_a_statement_decides_its_state(changes: dict[str, str], state: State) -> None:
    assert statement(**changes).assessment.state is state


def test_the_administrator_joins_on_the_last_day() -> None:
    tells = {one.name: [t.role for t in one.tell] for one in RULES["statement"].cadence.stages}

    assert tells["T-5"] == tells["T-2"] == tells["+3"] == ["finance"]
    assert tells["T-0"] == tells["ended"] == tells["+7"] == ["finance", "administrator"]
