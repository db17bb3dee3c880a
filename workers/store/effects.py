"""What came of reminders: tellings set against when their records were done, counted in SQL.

One pass over what was told, by window functions that both dialects have: a million occurrences
leave as one row a stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, Numeric, Row, and_, case, cast, func, or_, select

from workers.model import NotificationState
from workers.store.engine import Database
from workers.store.tables import notifications, occurrences, records

TOLD_STATES = (NotificationState.ACCEPTED.value, NotificationState.DELIVERED.value)
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Closings:
    """So many records of a kind done alike.

    `dated` says whether they have a deadline; `stage` is the last one told before they were done,
    None where there was none.
    """

    kind: str
    dated: bool
    stage: str | None
    number: int


class Effects:
    """Statements that set what was told against what was done. Instants are aware UTC.

    A stage that repeats (`+7#2`) counts as the one that it repeats (`+7`).
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def by_stage(
        self,
        kinds: Collection[str],
        since: datetime | None,
        until: datetime | None,
        within: timedelta,
        partner: str | None = None,
    ) -> list[Row[Any]]:
        """What came of each stage: kind, stage, told, after, within, never, median_s.

        Counted are ladders of records first told at the stage from `since` up to, not including,
        `until`; what became of them is looked at to the present. `median_s` is in seconds, None
        where `after` is 0.
        """
        last = self._last_told(kinds, partner)
        credited = and_(last.c.place == 1, last.c.last_at.is_not(None))
        chosen = (
            select(
                last.c.kind,
                last.c.stage,
                last.c.closed_at,
                case((credited, 1), else_=0).label("credited"),
                self._seconds(last.c.first_at, last.c.closed_at).label("seconds"),
                self._seconds(last.c.last_at, last.c.closed_at).label("since_last"),
            )
            .where(*_between(last.c.first_at, since, until))
            .cte("chosen")
        )
        group = [chosen.c.kind, chosen.c.stage, chosen.c.credited]
        ranked = select(
            chosen,
            func.row_number().over(partition_by=group, order_by=chosen.c.seconds).label("place"),
            func.count().over(partition_by=group).label("many"),
        ).cte("ranked")
        # The middle one, or the two beside the middle, of which the mean is taken.
        middle = and_(
            ranked.c.credited == 1,
            or_(
                ranked.c.place == (ranked.c.many + 1) // 2,
                ranked.c.place == (ranked.c.many + 2) // 2,
            ),
        )
        soon = and_(ranked.c.credited == 1, ranked.c.since_last <= within.total_seconds())
        statement = (
            select(
                ranked.c.kind,
                ranked.c.stage,
                func.count().label("told"),
                func.sum(ranked.c.credited).label("after"),
                _number_of(soon).label("within"),
                _number_of(ranked.c.closed_at.is_(None)).label("never"),
                func.avg(case((middle, ranked.c.seconds))).label("median_s"),
            )
            .group_by(ranked.c.kind, ranked.c.stage)
            .order_by(ranked.c.kind, ranked.c.stage)
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def closings(
        self,
        kinds: Collection[str],
        since: datetime | None,
        until: datetime | None,
        partner: str | None = None,
    ) -> list[Closings]:
        """Records done from `since` up to, not including, `until`, by kind and last stage told."""
        dated = records.c.due_at.is_not(None).label("dated")
        everyone = (
            select(records.c.kind, dated, func.count().label("number"))
            .where(
                records.c.closed_at.is_not(None),
                *_of(kinds, partner),
                *_between(records.c.closed_at, since, until),
            )
            .group_by(records.c.kind, dated)
        )
        last = self._last_told(kinds, partner)
        reminded = (
            select(last.c.kind, last.c.dated, last.c.stage, func.count().label("number"))
            .where(
                last.c.place == 1,
                last.c.last_at.is_not(None),
                *_between(last.c.closed_at, since, until),
            )
            .group_by(last.c.kind, last.c.dated, last.c.stage)
        )
        async with self.database.read() as connection:
            # Counted apart: a join of each record with what it was told is slow on SQLite.
            all_of = {
                (row.kind, bool(row.dated)): int(row.number)
                for row in await connection.execute(everyone)
            }
            found = [
                Closings(row.kind, bool(row.dated), row.stage, int(row.number))
                for row in await connection.execute(reminded)
            ]
        told = Counter[tuple[str, bool]]()
        for one in found:
            told[one.kind, one.dated] += one.number
        rest = [Closings(*key, None, number - told[key]) for key, number in all_of.items()]
        return [*found, *(one for one in rest if one.number > 0)]

    def _last_told(self, kinds: Collection[str], partner: str | None) -> CTE:
        """Each stage told in each ladder, and its `place` among its record's, the last being 1.

        `last_at` is when it was last told before the record was done, None where it never was. A
        telling counts if it was in the record's present ladder or since its present opening: to be
        done may move a record to another ladder, where nothing was told.
        """
        counts = and_(
            notifications.c.accepted_at <= records.c.closed_at,
            or_(
                occurrences.c.ladder == records.c.ladder,
                notifications.c.accepted_at >= records.c.opened_at,
            ),
        )
        stage = self._stage()
        dated = records.c.due_at.is_not(None)
        told = (
            select(
                records.c.id.label("record_id"),
                records.c.kind,
                records.c.closed_at,
                dated.label("dated"),
                stage.label("stage"),
                func.min(notifications.c.accepted_at).label("first_at"),
                func.max(case((counts, notifications.c.accepted_at))).label("last_at"),
                func.max(case((counts, occurrences.c.id))).label("last_id"),
            )
            .join(occurrences, occurrences.c.record_id == records.c.id)
            .join(notifications, notifications.c.id == occurrences.c.notification_id)
            .where(
                *_of(kinds, partner),
                occurrences.c.dropped.is_(None),
                notifications.c.state.in_(TOLD_STATES),
                notifications.c.accepted_at.is_not(None),
            )
            .group_by(
                records.c.id,
                records.c.kind,
                records.c.closed_at,
                dated,
                occurrences.c.ladder,
                stage,
            )
            .cte("told")
        )
        order = [told.c.last_at.desc().nulls_last(), told.c.last_id.desc()]
        place = func.row_number().over(partition_by=told.c.record_id, order_by=order)
        return select(told, place.label("place")).cte("last_told")

    def _stage(self) -> ColumnElement[str]:
        """An occurrence's stage without the number of its repetition."""
        name = occurrences.c.stage
        if self.database.dialect == "sqlite":
            return func.substr(name, 1, func.instr(name.concat("#"), "#") - 1)
        return func.split_part(name, "#", 1)

    def _seconds(self, begin: ColumnElement[Any], end: ColumnElement[Any]) -> ColumnElement[Any]:
        """Seconds between two instants, to the millisecond: SQLite's days are counted in floats."""
        if self.database.dialect == "sqlite":
            return func.round((func.julianday(end) - func.julianday(begin)) * DAY_S, 3)
        return func.round(cast(func.extract("epoch", end - begin), Numeric), 3)


def _of(kinds: Collection[str], partner: str | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [records.c.kind.in_(sorted(kinds))]
    if partner is not None:
        wanted.append(records.c.partner == partner)
    return wanted


def _between(
    at: ColumnElement[Any], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if since is not None:
        wanted.append(at >= since)
    if until is not None:
        wanted.append(at < until)
    return wanted


def _number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
