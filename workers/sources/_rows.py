"""Rows: what every source comes down to, from raw values with a place to checked models.

What a row is called by (a heading, a column's name) is a field's own name or one of its `Column`
names, in any case, with or without spaces and underscores; settings may add more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schedules.fields import Column
from schedules.people import CustomerData, SpendData
from schedules.rule import ContactData, PartnerData, Rule
from workers.errors import InputError
from workers.sources._cells import Place

SHOWN_CHARS = 40


@dataclass(frozen=True)
class Shape:
    """What a row may be: `partner`, `contact`, a rule's kind, or `<kind>.line`.

    `more` are further headings and the fields they name, which go before the known ones; one that
    names nothing is left out. `given` are the values of fields that a row doesn't bring itself.
    """

    name: str
    model: type[BaseModel]
    more: Mapping[str, str] = field(default_factory=dict, compare=False)
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """Each heading a file may use, folded, and the field it names.

        Raises RuntimeError when two fields of the model claim one heading.
        """
        found: dict[str, str] = {}
        for name, info in self.model.model_fields.items():
            columns = [entry for entry in info.metadata if isinstance(entry, Column)]
            for heading in {fold(name), *(fold(h) for column in columns for h in column.names)}:
                if found.setdefault(heading, name) != name:
                    raise RuntimeError(
                        f"{self.model.__name__}: the heading {heading!r} is claimed by "
                        f"{found[heading]} and {name}: leave it to one"
                    )
        known = self.model.model_fields
        for heading, name in self.mapped.items():
            if name in known:
                found[heading] = name
            elif not name:
                found.pop(heading, None)
        return found

    @cached_property
    def mapped(self) -> Mapping[str, str]:
        """`more` with its headings folded."""
        return {fold(heading): name for heading, name in self.more.items()}

    @cached_property
    def required(self) -> frozenset[str]:
        """The fields that a file must have a column for."""
        fields = self.model.model_fields.items()
        return frozenset(name for name, info in fields if info.is_required()) - set(self.given)

    def filled(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row's values with those that are given, where it has none of its own."""
        if not self.given:
            return values
        known = self.model.model_fields
        return {**{name: value for name, value in self.given.items() if name in known}, **values}

    def heading(self, name: str) -> str:
        """How an error names a field that a file lacks: `partner (伙伴ID)`."""
        for entry in self.model.model_fields[name].metadata:
            if isinstance(entry, Column) and entry.names:
                return f"{name} ({entry.names[0]})"
        return name


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `values` maps fields to what the file has, as yet unchecked; blanks of fields that
    may be left out are left out. `headings` maps fields to the file's own headings. `fault` is why
    the row couldn't be taken apart at all: then `values` is empty.
    """

    place: Place
    shape: Shape
    values: Mapping[str, Any]
    headings: Mapping[str, str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a row. `field` and `heading` are empty where it is the whole row.

    `value` is as in the file, shortened to 40 characters. `remedy` completes the sentence
    "<column> <value> …" and says how to mend it.
    """

    place: Place
    field: str
    heading: str
    value: str
    remedy: str

    def __str__(self) -> str:
        if not self.heading:
            return f"{self.place}: the row {self.remedy}"
        value = f" {self.value!r}" if self.value else ""
        return f"{self.place}, column {self.heading}:{value} {self.remedy}"


class RowError(InputError):
    """One row is refused; `problems` lists everything that is wrong with it."""

    def __init__(self, place: Place, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.place = place
        self.problems = tuple(problems)


Rules = Mapping[str, Rule] | Iterable[Rule | type[Rule]]


def shapes(
    rules: Rules, more: Mapping[str, str] | None = None, given: Mapping[str, Any] | None = None
) -> list[Shape]:
    """All that can be imported: who and what isn't watched, and what the rules know.

    Kinds whose records are made here come in no file. `more` and `given` as in Shape.
    """
    found = [
        Shape("partner", PartnerData),
        Shape("contact", ContactData),
        Shape("customer", CustomerData),
        Shape("spend", SpendData),
    ]
    for rule in rules.values() if isinstance(rules, Mapping) else rules:
        if rule.made_here:
            continue
        found.append(Shape(rule.kind, rule.Data))
        if rule.Line is not None:
            found.append(Shape(f"{rule.kind}.line", rule.Line))
    if more or given:
        return [Shape(one.name, one.model, more or {}, given or {}) for one in found]
    return found


def row_model(row: Row) -> BaseModel:
    """The row's values as its shape's model. Raises RowError with everything that is wrong."""
    if row.fault:
        raise RowError(row.place, [Problem(row.place, "", "", "", row.fault)])
    try:
        return row.shape.model.model_validate(dict(row.shape.filled(row.values)))
    except ValidationError as error:
        problems = [_problem(row, found) for found in error.errors(include_url=False)]
        raise RowError(row.place, problems) from None


def _problem(row: Row, found: ErrorDetails) -> Problem:
    name = str(found["loc"][0]) if found["loc"] else ""
    if name not in row.shape.model.model_fields:
        name = ""
    remedy = found["msg"].removeprefix("Value error, ")
    if found["type"] == "missing":
        remedy = "is empty: fill it in"
    elif found["type"] != "value_error":
        remedy = f"is refused ({remedy[0].lower()}{remedy[1:]}): correct it"
    heading = row.headings.get(name) or (row.shape.heading(name) if name else "")
    value = "" if name not in row.values else str(row.values[name])
    if len(value) > SHOWN_CHARS:
        value = value[: SHOWN_CHARS - 1] + "…"
    return Problem(row.place, name, heading, value, remedy)


def fold(heading: str) -> str:
    """A heading without what people write differently: case, width, blanks, underscores."""
    plain = unicodedata.normalize("NFKC", heading).casefold()
    return re.sub(r"[\s_\-\ufeff]+", "", plain).strip("*")  # exports mark required columns by *
