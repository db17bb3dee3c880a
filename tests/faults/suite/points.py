"""A copy of the product that says when a message has come to a point; see `named_points.py`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.suite.mutants import Change, copied

SAY = 'await __import__("workers.named_points", fromlist=["it"]).reached('
OUTBOX, COMMITMENT = "workers/store/outbox.py", "workers/commitment.py"
SMTP, DELIVER = "workers/providers/smtp.py", "workers/deliver.py"
LEFT = "                claimed = [one for one in claimed if one.id not in waits]\n"
READY = "        ready = [one for one in looked if isinstance(one, Ready)]\n"
REFUND = "                await self.purse.refund(connection, one.claimed.id)\n"
REFUSED = "            refused = await self._refused(connection, ready, names, now)\n"
MAIL = '        _expect(reply, "MAIL", {250})\n'
RCPT = '        _expect(reply, "RCPT", {250, 251})\n'
DATA = '        _expect(reply, "DATA", {354})\n'
OFFER = '        encoding = "utf-8" if envelope.utf8 else "ascii"\n'
WRITE = "            session.content(envelope.content)\n"
LOST = '            raise _Lost("before the content") from None\n'
FINISH = (
    "                    refused = await self.store.outbox.finish(finished, self.clock(), also)\n"
)
SERVE = "    run_daemon("


def _said(indent: int, point: str, what: str, more: str = "") -> str:
    return f'{" " * indent}{SAY}"{point}", {what}{more})\n'


def _of(outcome: str) -> str:
    return f"[one for one in finished if one.outcome is Outcome.{outcome}]"


CHANGES = (
    Change(
        OUTBOX,
        LEFT,
        LEFT
        + _said(12, "before the claim's commit", "claimed")
        + _said(8, "after the claim's commit", "claimed"),
    ),
    Change(COMMITMENT, READY, READY + _said(8, "after rendering", "ready")),
    Change(
        COMMITMENT,
        REFUSED,
        _said(12, "before it was looked for refusals", "ready")
        + REFUSED
        + _said(12, "after it was looked for refusals", "ready"),
    ),
    Change(
        COMMITMENT,
        REFUND,
        REFUND
        + _said(12, "before its beginning's commit", "begun")
        + _said(8, "after its beginning's commit", "begun"),
    ),
    Change(SMTP, OFFER, _said(8, "after connecting", "[envelope]") + OFFER),
    Change(SMTP, MAIL, MAIL + _said(8, "after MAIL", "[envelope]")),
    Change(SMTP, RCPT, RCPT + _said(8, "after RCPT", "[envelope]")),
    Change(SMTP, DATA, DATA + _said(8, "after 354", "[envelope]")),
    Change(
        SMTP,
        WRITE,
        _said(
            12,
            "after half the content",
            "[envelope]",
            ", first=lambda: session.part(envelope.content[: len(envelope.content) // 2])",
        )
        + WRITE,
    ),
    Change(
        SMTP,
        f"{LOST}        try:\n",
        f"{LOST}{_said(8, 'after the final dot', '[envelope]')}        try:\n",
    ),
    Change(
        DELIVER,
        FINISH,
        _said(20, "before the outcome's commit", _of("ACCEPTED"))
        + _said(20, "before a retry's commit", _of("DEFERRED"))
        + FINISH
        + _said(20, "after the outcome's commit", _of("ACCEPTED")),
    ),
    Change(
        "workers/cli/roles.py",
        SERVE,
        '    __import__("workers.named_points", fromlist=["it"]).live_again_and_again()\n' + SERVE,
    ),
)


@contextmanager
def with_points(tree: Path) -> Iterator[Path]:
    """A copy of a tree that says so at each point, removed afterwards.

    Raises ValueError when the place of a point isn't there once: the product has changed.
    """
    with copied(tree) as copy:
        for change in CHANGES:
            file = copy / change.file
            text = file.read_text("utf-8")
            if (times := text.count(change.old)) != 1:
                raise ValueError(f"{change.file} has {times} times {change.old!r}")
            file.write_text(text.replace(change.old, change.new), "utf-8")
        shutil.copy(Path(__file__).with_name("named_points.py"), copy / "workers")
        yield copy
