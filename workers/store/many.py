"""Many rows in one statement: one JSON parameter, read as a table by both databases.

However many rows there are, the statement's text stays the same: it is compiled and planned once,
and neither database's limit on parameters is ever met.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import FromClause, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

ROWS: Final = "rows"
"""The parameter's name; its value is what `as_json` makes."""


def listed(connection: AsyncConnection, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """The parameter ROWS as a table of these columns; what a row lacks is NULL."""
    rows = bindparam(ROWS, type_=Text())
    if connection.dialect.name != "sqlite":
        made = func.json_to_recordset(cast(rows, JSON))
        named = [column(name, its) for name, its in columns.items()]
        return made.table_valued(*named).render_derived(name="listed", with_types=True)
    each = func.json_each(rows).table_valued(column("value", Text), name="each_row")
    parts = [
        func.json_extract(each.c.value, f"$.{name}", type_=its).label(name)
        for name, its in columns.items()
    ]
    return select(*parts).select_from(each).subquery("listed")


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as `listed` reads them. Instants must be aware."""
    return json.dumps(list(rows), separators=(",", ":"), default=_instant)


def _instant(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    raise TypeError(f"{value!r} can't be listed")
