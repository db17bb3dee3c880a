"""A template that never ends parks its own message, and nothing else waits for it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.fakes.clock import FakeClock
from tests.product import contact, inbox, opened, planned, statement, states
from workers.app import TEMPLATES
from workers.render.limit import RENDER_S, EndlessError, limited

ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a + b %}{% endfor %}"
    "{% endfor %}{{ recipient.name }}"
)


async def test_a_template_that_never_ends_parks_its_message_and_the_others_go_on(
    tmp_path: Path, clock: FakeClock
) -> None:
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    (templates / "messages/zh-CN/statement/reminder.txt").write_text(f"你好\n{ENDLESS}\n")
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, templates=templates) as app:
        await planned(
            app,
            contact(language="zh-CN"),
            contact("C2", partner="P2", language="en"),
            statement(),
            statement("S2", partner="P2"),
        )
        began = time.process_time()
        await app.delivery.drain()
        took = time.process_time() - began
        (parked,) = await app.store.operations.notifications(state="parked")

        assert await states(app) == {"c1@example.com": "parked", "c2@example.com": "accepted"}
        assert await inbox(app) == ["c2@example.com"]
        assert "zh-CN/statement/reminder.txt, line 2: EndlessError: it didn't end" in parked.reason
        assert took < RENDER_S * 2 + 5


def _never_ends() -> None:
    while True:
        pass


def test_what_ends_in_time_is_left_alone_and_so_is_what_comes_after() -> None:
    with limited(0.2):
        before = sum(range(1000))
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass

    assert before == 499500
    with pytest.raises(EndlessError), limited(0.1):
        _never_ends()
