"""The command digest: a partner's month in figures, on demand."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.rule import Partner, PartnerData, Record
from schedules.rules._operations import OperationsDigestData
from schedules.rules.operations_digest import month_before
from workers.cli.frame import dump, json_option, table, with_app
from workers.errors import InputError, UnknownThingError
from workers.model import Notice, NoticeItem, Recipient
from workers.operations_digest import KIND, gather, make, partners_of

if TYPE_CHECKING:
    from workers.app import App

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")
_UNSAFE = re.compile(r'[\\/:*?"<>|\s]+')


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: whose figures of which month, and what becomes of them."""

    partner: str | None
    month: str | None
    folder: Path | None
    send: bool
    language: str
    as_json: bool


@click.command("digest")
@click.option("--partner", metavar="REF", help="The figures of this partner.")
@click.option("--all", "every", is_flag=True, help="Of every partner that has any.")
@click.option("--month", metavar="MONTH", help="Like 2026-10 (default: the last that is over).")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write page, pictures and workbook to this folder.",
)
@click.option("--send", is_flag=True, help="Make them now; scan and deliver send them.")
@click.option("--language", default="zh-CN", show_default=True, help="Of what --out writes.")
@json_option
def digest_command(
    partner: str | None,
    every: bool,
    month: str | None,
    folder: Path | None,
    send: bool,
    language: str,
    as_json: bool,
) -> None:
    """A month in figures: customers, spend, reminders and what they led to.

    \b
    duewatch digest --partner P-1001                       show it
    duewatch digest --all --month 2026-10 --out figures    write pages, charts and workbooks
    duewatch digest --partner P-1001 --send                tell the supervisors again
    """
    if (partner is None) != every:
        raise click.UsageError("say whose figures: --partner REF or --all")
    if month is not None and not _MONTH.fullmatch(month):
        raise InputError(f"--month {month}: isn't a month: write it like 2026-10")
    wanted = Wanted(partner, month, folder, send, language, as_json)
    with_app(lambda app, _: _work(app, wanted))


async def _work(app: App, wanted: Wanted) -> None:
    now = app.clock()
    month = wanted.month or month_before(now)
    some = await partners_of(app, month)
    refs = [wanted.partner] if wanted.partner else some
    known = {ref: await _partner(app, ref, ref in some) for ref in refs}
    edition = f"{now:%Y%m%dT%H%M%SZ}" if wanted.send else "1"
    digests = [await gather(app, ref, month, now, edition) for ref in refs]
    if wanted.folder is not None:
        for one in digests:
            _write_all(app, one, known[one.partner], wanted)
    if wanted.send:
        for one in digests:
            await make(app, one)
    _show(digests, wanted, month)


async def _partner(app: App, ref: str, has_figures: bool) -> Partner:
    """The partner as it is known, or with its ref for a name where only its records are."""
    async with app.store.database.read() as connection:
        found, _ = await app.store.records.people(connection, [ref])
    if ref in found:
        data = PartnerData.model_validate(found[ref].data)
        return Partner(ref, data.name or ref, data.type or "", data.parent)
    if has_figures or await app.store.records.search(partner=ref, limit=1):
        return Partner(ref, ref)
    raise UnknownThingError(
        f"there is no partner {ref}: import it, its customers or its records first"
    )


def _show(digests: list[OperationsDigestData], wanted: Wanted, month: str) -> None:
    if wanted.as_json:
        dump([one.model_dump(mode="json", exclude_none=True) for one in digests])
        return
    columns = ["partner", "customers #", "new #", "left #", "with cash #", "cash #"]
    columns += ["mails #", "sms #", "reminded #", "closed #", "too early #"]
    table(f"Operations digest {month}", columns, (_row(one) for one in digests))
    if wanted.folder is not None and digests:
        click.echo(f"Wrote {wanted.folder}: {len(digests)} page{'s' * (len(digests) != 1)}.")
    if wanted.send and digests:
        click.echo(f"Made {len(digests)}: duewatch run, or scan {KIND} and deliver, sends them.")


def _row(one: OperationsDigestData) -> list[Any]:
    cash = ", ".join(f"{spend.cash:,.2f} {spend.currency}" for spend in one.spent())
    row: list[Any] = [one.partner, one.customers, one.joined, one.left, one.with_cash, cash]
    return [*row, one.mails, one.sms, one.told, one.closed, one.early]


def _write_all(app: App, digest: OperationsDigestData, partner: Partner, wanted: Wanted) -> None:
    """One partner's page (with its pictures in it), each picture by itself, and the workbook."""
    from workers.render.figures import embedded, figures_file_name, pictures
    from workers.render.figures_xlsx import figures_xlsx

    assert wanted.folder is not None
    rule = app.rules[KIND]
    record = Record(
        kind=KIND,
        data=digest,
        opened_at=rule.opened_at(digest),
        deadline=rule.deadline(digest, app.registry.calendar),
        partner=partner,
        assessment=rule.assess(digest, ()),
    )
    figures = rule.figures(record)
    assert figures is not None
    tag = app.renderer.language_for(wanted.language)
    titles = {kind: one.title.get(tag) or one.title["en"] for kind, one in app.rules.items()}
    found = pictures(figures, tag, titles)
    stem = _UNSAFE.sub("-", f"{digest.partner}_{digest.month}")
    page = app.renderer.parts(_notice(app, record, wanted.language))["html"]
    files = {f"{stem}.html": embedded(page, found).encode()}
    for one in found:
        for look, dark in (("light", False), ("dark", True)):
            files[f"{stem}_{one.key}_{look}.png"] = one.png(dark=dark)
    files[figures_file_name(figures, tag)] = figures_xlsx(figures, tag, titles)
    _write(wanted.folder, files)


def _notice(app: App, record: Record, language: str) -> Notice:
    """A notice to nobody in particular: the page is for whoever asked."""
    return Notice(
        uid=uuid.uuid4().hex,
        kind=KIND,
        message="digest",
        channel="mail",
        recipient=Recipient(
            ref=KIND,
            name=record.partner.name,
            role="supervisor",
            address="nobody@example.com",
            language=language,
            time_zone="Asia/Shanghai",
        ),
        items=(NoticeItem(record, "monthly"),),
        now=record.opened_at,
    )


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise InputError(f"--out {folder}: can't be written: {error.strerror}") from None
