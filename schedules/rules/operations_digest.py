"""Operations digest: a partner's month in figures and charts.

Opens:      it is made: on a month's first working day for the month before, or on demand
Closes:     with its one mail planned; nothing has to be done
Deadline:   20 days after it was made, so that after a downtime no old figures are sent
Tells:      the supervisors, else the administrators
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING
from schedules.figures import Figures
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Plain,
    Record,
    Rule,
    Sample,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._operations import OperationsDigestData, figures_of
from schedules.rules._samples import sample_of

FRESH = timedelta(days=20)
"""How long a digest is worth sending."""
STALE = "stale"
"""What becomes of figures at the deadline: they are history."""


class OperationsDigest(Rule):
    """The figures of a month for who runs a partner's business."""

    kind = "operations_digest"
    made_here = True
    title: ClassVar[Mapping[str, str]] = {"en": "Operations digest", "zh-CN": "运营月报"}
    Data = OperationsDigestData
    cadence = Cadence(stages=(stage("monthly", "opened", Tell("supervisor", message="digest")),))

    def opened_at(self, data: OperationsDigestData) -> datetime:
        """When it was made."""
        return data.made_at

    def ladder(self, data: OperationsDigestData) -> str:
        """Each edition is a climb of its own: figures made anew on demand are sent again."""
        return data.edition

    def deadline(self, data: OperationsDigestData, calendar: WorkingCalendar) -> Deadline:
        """When the figures are too old to be sent."""
        return Deadline(data.made_at + FRESH, STALE)

    def assess(self, data: OperationsDigestData, lines: Sequence[Any]) -> Assessment:
        """Open until it is told, once."""
        return Assessment(State.OPEN, f"the figures of {data.month} are made", last_word=True)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the month and every figure."""
        data = data_of(record, OperationsDigestData)
        return {
            **super().view(record),
            "month": data.month,
            "made_at": data.made_at,
            "within_days": data.within_days,
            "customers": data.customers,
            "joined": data.joined,
            "left": data.left,
            "with_cash": data.with_cash,
            "mails": data.mails,
            "sms": data.sms,
            "told": data.told,
            "closed": data.closed,
            "early": data.early,
            "spent": [one.model_dump() for one in data.spent()],
            "years": [one.model_dump() for one in data.years],
            "types": [one.model_dump() for one in data.types],
            "months": [one.model_dump() for one in data.months],
            "spends": [one.model_dump() for one in data.spends],
            "stages": [one.model_dump() for one in data.stages],
        }

    def figures(self, record: Record) -> Figures:
        """All charts."""
        return figures_of(data_of(record, OperationsDigestData), record)

    def samples(self, now: datetime) -> Sequence[Sample]:
        """A grown partner's month, one without customers, and one of a partner abroad."""
        return (
            _sample(now, "P-1001", "青禾云示例科技有限公司", _grown(now)),
            _sample(now, "P-1002", "望蓝示例信息技术有限公司", {"within_days": 7}),
            _sample(now, "P-1003", "Harbour Cloud Ltd.", _abroad(now), english=True),
        )


def months_up_to(month: str, count: int) -> list[str]:
    """`count` months that end with `month` (`2026-10`), oldest first."""
    last = int(month[:4]) * 12 + int(month[5:]) - 1
    return [f"{n // 12}-{n % 12 + 1:02}" for n in range(last - count + 1, last + 1)]


def month_before(at: datetime) -> str:
    """The last month that is over at Beijing."""
    first = at.astimezone(BEIJING).replace(day=1)
    return f"{first - timedelta(days=1):%Y-%m}"


def _sample(
    now: datetime, partner: str, name: str, figures: Mapping[str, Any], english: bool = False
) -> Sample:
    month = month_before(now)
    data = {
        "partner": partner,
        "month": month,
        "made_at": now.isoformat(),
        **figures,
    }
    of = {"name": name}
    return sample_of(f"{partner}:{month}", english, None, data, "supervisor", partner=of)


def _grown(now: datetime) -> dict[str, Any]:
    month = month_before(now)
    year = int(month[:4])
    months = months_up_to(month, 12)
    counts = (118, 121, 121, 126, 131, 133, 139, 142, 148, 151, 155, 163)
    cash = (61, 58, 44, 63, 70, 72, 75, 71, 80, 84, 83, 91)
    paid: tuple[int, ...] = (812_340, 790_118, 402_915, 833_402, 901_277, 917_560)
    paid += (958_031, 940_226, 1_015_874, 1_102_648, 1_088_391, 1_246_905)
    other: tuple[int, ...] = (96_000, 88_500, 41_200, 77_000, 120_400, 99_300)
    other += (101_000, 83_700, 92_600, 140_800, 87_450, 118_260)
    stages = (
        ("incentive", "T-5", 14, 6, 0, "1.9"),
        ("incentive", "T-2", 8, 6, 0, "0.8"),
        ("incentive", "T-0", 2, 2, 0, "0.3"),
        ("invitation", "T-72h", 31, 12, 4, "1.2"),
        ("invitation", "T-24h", 17, 9, 3, "0.4"),
        ("opportunity", "T-2", 9, 7, 0, "0.6"),
        ("opportunity", "T-0", 3, 2, 0, "0.2"),
        ("payment", "+1", 12, 8, 1, "2.5"),
        ("payment", "+3", 5, 3, 1, "1.4"),
        ("statement", "T-5", 11, 5, 0, "2.2"),
        ("statement", "T-2", 6, 4, 0, "1.0"),
    )
    return {
        "customers": 163,
        "joined": 11,
        "left": 3,
        "mails": 108,
        "sms": 41,
        "years": [
            {"period": f"{year - 3}", "customers": 37, "joined": 37},
            {"period": f"{year - 2}", "customers": 84, "joined": 49, "left": 2},
            {"period": f"{year - 1}", "customers": 121, "joined": 44, "left": 7},
            {"period": month, "customers": 163, "joined": 51, "left": 9},
        ],
        "types": [
            {"type": "REFERRAL", "customers": 104},
            {"type": "RESALE", "customers": 55},
            {"type": "UNKNOWN", "customers": 4},
        ],
        "months": [
            {"month": m, "customers": n, "with_cash": c}
            for m, n, c in zip(months, counts, cash, strict=True)
        ],
        "spends": [
            {"month": m, "cash": f"{c}.40", "other": f"{o}.00"}
            for m, c, o in zip(months, paid, other, strict=True)
        ],
        "stages": [_stage_count(*one) for one in stages],
    }


def _stage_count(
    kind: str, name: str, told: int, closed: int, early: int, median: str
) -> dict[str, Any]:
    return {
        "kind": kind,
        "stage": name,
        "told": told,
        "closed": closed,
        "early": early,
        "median_days": median,
    }


def _abroad(now: datetime) -> dict[str, Any]:
    month = month_before(now)
    months = months_up_to(month, 3)
    return {
        "customers": 4,
        "joined": 2,
        "mails": 3,
        "years": [{"period": month, "customers": 4, "joined": 4}],
        "types": [{"type": "RESALE", "customers": 4}],
        "months": [
            {"month": m, "customers": n, "with_cash": n - 1}
            for m, n in zip(months, (1, 2, 4), strict=True)
        ],
        "spends": [
            {"month": m, "currency": "USD", "cash": c, "other": "0.00"}
            for m, c in zip(months, ("0.00", "310.25", "1840.90"), strict=True)
        ],
        "stages": [_stage_count("invitation", "T-72h", 3, 1, 1, "0.9")],
    }
