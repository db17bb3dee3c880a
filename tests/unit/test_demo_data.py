"""The demo's data: the same each time, right to the cent, wrong only on purpose."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING
from schedules.invoice_list import InvoiceList, findings
from schedules.rules import load_rules
from schedules.rules.payment import InvoiceLine, PaymentData
from workers.demo import demo_start
from workers.demo.data import make_data
from workers.sources.files import RowError, read_file, row_model

CALENDAR = WorkingCalendar.load()
RULES = load_rules()
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=BEIJING)
# After the longest holiday, on a make-up Saturday, and at the end of the announced years.
OTHER_STARTS = [(2026, 2, 24), (2026, 2, 28), (2026, 10, 8), (2026, 12, 31), (2028, 2, 29)]


def written(folder: Path, now: datetime = NOW, **more: int) -> dict[str, bytes]:
    folder.mkdir()
    return {path.name: path.read_bytes() for path in make_data(now, CALENDAR, **more).write(folder)}


def read(folder: Path) -> tuple[Counter[str], list[str], list[PaymentData], list[InvoiceLine]]:
    """(rows taken by shape, what is refused, payments, lines) of all files in a folder."""
    counts: Counter[str] = Counter()
    refused: list[str] = []
    payments: list[PaymentData] = []
    lines: list[InvoiceLine] = []
    for path in sorted(folder.iterdir()):
        for row in read_file(path, RULES):
            try:
                model = row_model(row)
            except RowError as error:
                refused.append(str(error))
                continue
            counts[row.shape.name] += 1
            if isinstance(model, PaymentData):
                payments.append(model)
            elif isinstance(model, InvoiceLine):
                lines.append(model)
    return counts, refused, payments, lines


def test_the_same_seed_and_now_make_the_same_files(tmp_path: Path) -> None:
    first, again = written(tmp_path / "a"), written(tmp_path / "b")
    other = written(tmp_path / "c", seed=7)

    assert first == again
    assert first.keys() == other.keys()
    assert first["申付单-开票清单.xlsx"] != other["申付单-开票清单.xlsx"]


def test_there_is_as_much_as_is_promised(tmp_path: Path) -> None:
    written(tmp_path / "demo")
    counts, _, _, lines = read(tmp_path / "demo")

    assert counts["partner"] == 40
    assert 190 <= counts["contact"] <= 205
    assert 380 <= counts["invitation"] + counts["statement"] + counts["payment"] <= 420
    lengths = Counter(line.payment for line in lines).values()
    assert (min(lengths), max(lengths)) == (1, 500)


def test_each_list_adds_up_but_the_two_that_must_not(tmp_path: Path) -> None:
    written(tmp_path / "demo")
    _, _, payments, lines = read(tmp_path / "demo")

    wrong = {}
    for payment in payments:
        own = [line for line in lines if line.payment == payment.ref]
        if found := findings(InvoiceList.build(payment, own, "Partner")):
            wrong[payment.ref] = (len(own), found)

    without_lines = [ref for ref, (count, _) in wrong.items() if not count]
    off = [found for count, found in wrong.values() if count]
    assert len(without_lines) == 1
    assert len(off) == 2
    assert any("the difference is -0.01" in found[0] for found in off)
    assert any("the tax is" in found[0] for found in off)
    assert all(payment.amount_incl_tax > Decimal(0) for payment in payments)


@pytest.mark.parametrize("day", [(2026, 11, 24), *OTHER_STARTS])
def test_on_any_day_only_the_rows_that_are_broken_on_purpose_are_refused(
    tmp_path: Path, day: tuple[int, int, int]
) -> None:
    written(tmp_path / "demo", datetime(*day, 10, 0, tzinfo=BEIJING))
    _, refused, _, _ = read(tmp_path / "demo")

    assert len(refused) == 11, refused
    for part in ("LF", "@@", "1380000'", "北京", "2月30日", "飞鸽传书", "1,234.5O", "捌仟捌佰元"):
        assert any(part in sentence for sentence in refused), part


def test_chinese_invitations_come_in_the_encoding_of_the_export(tmp_path: Path) -> None:
    files = written(tmp_path / "demo")

    exported = files["邀请记录.csv"].decode("gb18030")
    assert exported.startswith("邀请编号,")
    assert "138****" in exported
    with pytest.raises(UnicodeDecodeError):
        files["邀请记录.csv"].decode("utf-8")
    assert files["partners.csv"].startswith(b"\xef\xbb\xbf")


def test_every_address_is_one_that_nobody_has(tmp_path: Path) -> None:
    written(tmp_path / "demo")

    for path in (tmp_path / "demo").iterdir():
        for row in read_file(path, RULES):
            for name in ("mail", "customer_mail", "post_mailbox"):
                address = row.values.get(name)
                if address and "@@" not in address:
                    assert address.endswith(".example"), address


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        ("2026-11-24T03:00", "2026-11-24"),  # 11:00 on a Tuesday
        ("2026-11-24T01:59", "2026-11-23"),  # a minute before ten
        ("2026-11-23T20:00", "2026-11-23"),  # four at night
        ("2026-11-22T12:00", "2026-11-20"),  # a Sunday
        ("2026-02-28T09:00", "2026-02-28"),  # a make-up Saturday
        ("2026-02-20T09:00", "2026-02-14"),  # within the Spring Festival
    ],
)
def test_the_clock_begins_on_a_working_morning_that_has_been(now: str, begins: str) -> None:
    start = demo_start(datetime.fromisoformat(now).replace(tzinfo=UTC), CALENDAR)

    assert f"{start:%Y-%m-%dT%H:%M%z}" == f"{begins}T10:00+0800"
