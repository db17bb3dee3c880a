"""What a record says in figures: charts as plain data, for pictures in a mail and for a workbook.

Names are keys of the words in `templates/documents/figures/<language>.toml`; nothing here is
drawn or worded.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Number = int | Decimal

Form = Literal["columns", "stacked", "bars", "outcomes"]
"""columns: one upright bar a category. stacked: several, one on the other. bars: lying ones.
outcomes: lying ones in parts, in groups of one kind each, for stages.
"""
Axis = Literal["year", "month", "word", "stage"]
"""What categories are: `2026` (`2026-10`: that year up to October); `2026-10`; a key of the words;
`<kind>|<stage>`.
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One row of numbers, as many as the chart has categories; None where there is none."""

    name: str
    values: tuple[Number | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. Money in `currency` (ISO 4217), counts where that is empty.

    `extra` are series for the workbook's table only.
    """

    name: str
    form: Form
    axis: Axis
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    currency: str = ""
    extra: tuple[Series, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where a series hasn't one value for each category."""
        for series in (*self.series, *self.extra):
            if len(series.values) != len(self.categories):
                raise ValueError(
                    f"{self.name}.{series.name} has {len(series.values)} values for "
                    f"{len(self.categories)} categories: give one for each"
                )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see."""
        return not any(value for series in self.series for value in series.values)


@dataclass(frozen=True, slots=True)
class Total:
    """One figure by itself: a count, or money where `currency` is given."""

    name: str
    value: Number
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """All charts of one record. `month` is `2026-10`; `within_days` is what `{days}` in words is.

    `name` is the file's in words; `owner` and `owner_ref` say whose figures they are.
    """

    name: str
    owner: str
    owner_ref: str
    month: str
    within_days: int
    totals: tuple[Total, ...]
    charts: tuple[Chart, ...]
