"""The command digest: figures on a screen, in a folder and in a mail, for whoever asks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.shell import NOW, Shell, told

pytestmark = pytest.mark.acceptance

MONTH = f"{NOW + timedelta(hours=8):%Y-%m}"
"""The present one at Beijing: what is brought in now belongs to it."""
PEOPLE = """\
伙伴ID,联系人ID,角色,姓名,邮箱,语言
P1,S1,主管,李明,boss@example.com,zh-CN
"""
CUSTOMERS = """\
客户ID,伙伴ID,客户名称,关联类型,关联时间
C1,P1,甲,顾问销售,2024-05-01
C2,P1,乙,代售,2025-05-01
"""
SPENDS = f"""\
客户ID,伙伴ID,月份,现金消费,其他消费
C1,P1,{MONTH},1234.50,10
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell with one partner's people, customers and spend."""
    made = Shell(tmp_path)
    files = {"people.csv": PEOPLE, "customers.csv": CUSTOMERS, "spends.csv": SPENDS}
    names = [made.write(name, text) for name, text in files.items()]
    assert made("import", *names).code == 0
    return made


def test_a_month_is_shown_to_people_and_to_scripts(shell: Shell) -> None:
    shown = shell("digest", "--partner", "P1", "--month", MONTH)
    (found,) = shell("digest", "--all", "--month", MONTH, "--json").json

    assert "1,234.50 CNY" in shown.out
    assert (found["customers"], found["months"][-1]["with_cash"]) == (2, 1)
    assert told(shell) == []


def test_page_pictures_and_workbook_are_written_to_a_folder(shell: Shell) -> None:
    done = shell("digest", "--all", "--month", MONTH, "--out", "new/figures", "--language", "en")
    files = {path.name: path for path in (shell.folder / "new" / "figures").iterdir()}
    page = files[f"P1_{MONTH}.html"].read_text("utf-8")

    assert done.code == 0
    assert f"operations-digest_P1_{MONTH}.xlsx" in files
    assert sum(name.endswith(".png") for name in files) == 8
    assert page.count("data:image/png;base64,") == 8
    assert "Customers by year" in page


def test_sent_on_demand_it_reaches_the_supervisor(shell: Shell) -> None:
    shell("digest", "--partner", "P1", "--month", MONTH, "--send")
    shell("scan", "operations_digest")
    shell("deliver")

    assert [(one["address"], one["state"]) for one in told(shell)] == [
        ("boss@example.com", "accepted")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say whose figures: --partner REF or --all"),
        (("--partner", "P1", "--all"), "say whose figures: --partner REF or --all"),
        (("--partner", "P9"), "there is no partner P9: import it"),
        (("--all", "--month", "2026-1"), "--month 2026-1: isn't a month: write it like 2026-10"),
        (("--all", "--month", "2099-12"), "month 2099-12 hasn't begun: choose one up to"),
    ],
)
def test_a_wrong_call_says_what_to_write(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell("digest", *words)

    assert done.code == 2
    assert said in done.err
