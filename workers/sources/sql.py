"""SQL: a query or view of the operator's own database, read by name of column, never written.

Reads:    PostgreSQL, MySQL, MariaDB and SQLite by SQLAlchemy URL, in a read-only transaction; the
          query stands within a SELECT of ours, so that it can be nothing but one query
Changed:  with `watermark`, a column that grows with every change, only rows from the last reading's
          highest on are read, a time `overlap_s` earlier, because a transaction may commit late;
          rows read twice change nothing
Gone:     noticed by whole readings: each one without a watermark, else one every `full_every_s`,
          which also brings rows that were refused before and those whose watermark is empty
Types:    NULL clears a field that may be empty. Decimal stays Decimal and a float becomes its
          shortest decimal; times without a zone are in `time_zone`
Drivers:  PostgreSQL and SQLite come along; MySQL needs `pip install duewatch[mysql]` (PyMySQL,
          which has no asyncio and so runs in a thread)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator

from schedules.rule import Rule
from workers.errors import InputError, SettingsError, UnavailableError
from workers.sources import Part, Reading, Source, SourceSettings, shape_of
from workers.sources._cells import Place
from workers.sources._rows import Row, fold

if TYPE_CHECKING:
    from sqlalchemy import URL, TextClause

AT_A_TIME = 500
"""Rows fetched in one go."""
DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "sqlite": "sqlite",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
CONNECT_S = 15
_Step = tuple[list[str], list[tuple[Any, ...]]]
_WRITTEN_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?")


class SqlSettings(SourceSettings):
    """A query or view of a database."""

    database_url: SecretStr = Field(
        description="postgresql://, mysql://, mariadb:// or sqlite:///FILE, of an account that may "
        "only read."
    )
    query: str = Field("", description="One SELECT; or `view`.")
    view: str = Field("", description="A table or view that is read whole, schema.name.")
    kind: str = Field(description="What a row is: a rule's kind, <kind>.line, contact, partner …")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='Columns that aren\'t named like their fields, "cust_name" = "customer_name".',
    )
    values: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Fields that the query lacks, partner = P1."
    )
    watermark: str = Field(
        "",
        description="Column that grows with every change, indexed; empty: all is read each time.",
    )
    overlap_s: float = Field(
        300.0, ge=0, le=7 * 86400, description="Seconds that a watermark of time is read again."
    )
    full_every_s: int = Field(
        86400,
        ge=0,
        description="Seconds between whole readings with a watermark; 0: by --full only.",
    )
    timeout_s: float = Field(
        600.0, gt=0, le=86400, description="Seconds without an answer until a reading is given up."
    )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        found = re.match(r"(\w+)(\+\w+)?://", value.get_secret_value())
        if not found or found[1] not in DRIVERS:
            raise ValueError("must begin with postgresql://, mysql://, mariadb:// or sqlite:///")
        if "password=" in value.get_secret_value():
            raise ValueError("write the password before the @, where it is masked")
        return value

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if bool(self.query.strip()) == bool(self.view.strip()):
            raise ValueError("needs query or view, one of them")
        if self.view and not re.fullmatch(r"\w+(\.\w+){0,2}", self.view):
            raise ValueError("view: write its name, like sales.open_payments")
        if not re.fullmatch(r"\w*", self.watermark):
            raise ValueError("watermark: write the column's name alone")
        return self


class Sql(Source):
    """Reads rows of one kind from a database."""

    kind_of_source: ClassVar[str] = "sql"
    Settings: ClassVar[type[SourceSettings]] = SqlSettings

    settings: SqlSettings

    def __init__(self, name: str, settings: SourceSettings, rules: Mapping[str, Rule]) -> None:
        super().__init__(name, settings, rules)
        mine = self.settings
        self._shape = shape_of(rules, mine.kind, mine.columns, mine.values)
        self._zone = ZoneInfo(mine.time_zone)

    @property
    def place(self) -> str:
        """The URL without its password."""
        url = self._url()
        shown = url.set(drivername=url.get_backend_name(), query={})
        return shown.render_as_string(hide_password=True)

    async def parts(self, reading: Reading) -> AsyncGenerator[Part, None]:
        """One part: the query."""
        part = Part(self.name)
        part.rows = self._rows(part, reading)
        yield part

    async def _rows(self, part: Part, reading: Reading) -> AsyncGenerator[Row, None]:
        since = None if self._is_full(reading) else _mark_in(reading.state.get("watermark"))
        highest: Any = since
        columns: dict[str, str] = {}
        number = 0
        mine = fold(self.settings.watermark)
        async with aclosing(self._read(self._from(since))) as steps:
            async for names, rows in steps:
                columns = columns or self._columns(names)
                at = next((i for i, name in enumerate(names) if mine and fold(name) == mine), None)
                if mine and at is None:
                    raise InputError(f"{self.name}: there is no column {self.settings.watermark}")
                for values in rows:
                    number += 1
                    if at is not None:
                        highest = _higher(highest, values[at])
                    yield self._row(number, names, values, columns)
        if since is None:
            part.whole.add(self._shape.name)
            part.state["full_at"] = reading.now.isoformat()
        if highest is not None:
            part.state["watermark"] = _mark_out(highest)

    def _is_full(self, reading: Reading) -> bool:
        if reading.full or not self.settings.watermark or not reading.state.get("watermark"):
            return True
        last = reading.state.get("full_at")
        every = self.settings.full_every_s
        if not last or not every:
            return not last
        return reading.now - datetime.fromisoformat(last) >= timedelta(seconds=every)

    def _from(self, since: Any) -> Any:
        """What the watermark must have reached to be read."""
        overlap = timedelta(seconds=self.settings.overlap_s)
        if isinstance(since, datetime):
            return since - overlap
        if isinstance(since, str) and _WRITTEN_TIME.fullmatch(since):
            earlier = datetime.fromisoformat(since) - overlap
            # In the same form, because text compares letter by letter.
            return earlier.isoformat(since[10], "microseconds")[: len(since)]
        return since

    # --- rows -----------------------------------------------------------------------------

    def _columns(self, names: list[str]) -> dict[str, str]:
        """Each field and its column. Raises InputError where one is missing or stands twice."""
        shape = self._shape
        found: dict[str, str] = {}
        for name in names:
            claimed = shape.fields.get(fold(name))
            if claimed is None:
                continue
            if claimed in found:
                if fold(found[claimed]) in shape.mapped:
                    continue
                if fold(name) not in shape.mapped:
                    raise InputError(
                        f"{self.name}: the columns {found[claimed]} and {name} both mean "
                        f"{claimed}: select one of them"
                    )
            found[claimed] = name
        if missing := sorted(shape.required - found.keys()):
            raise InputError(
                f"{self.name}: no column is {', '.join(missing)} (there are {', '.join(names)}): "
                "select it, name it in `columns`, or give it in `values`"
            )
        return found

    def _row(
        self, number: int, names: list[str], values: tuple[Any, ...], columns: dict[str, str]
    ) -> Row:
        place = Place(self.name, None, number, "row")
        by_name = dict(zip(names, values, strict=True))
        try:
            plain = {field: self._plain(field, by_name[name]) for field, name in columns.items()}
        except ValueError as error:
            return Row(place, self._shape, {}, columns, str(error))
        found = {field: value for field, value in plain.items() if self._says(field, value)}
        return Row(place, self._shape, found, columns)

    def _says(self, name: str, value: Any) -> bool:
        """Whether a value is passed on: NULL clears only what may be empty."""
        if value is not None or name in self._shape.required:
            return True
        return self._shape.model.model_fields[name].default is None and name not in (
            self._shape.given
        )

    def _plain(self, name: str, value: Any) -> Any:
        if isinstance(value, float):
            return int(value) if value.is_integer() else Decimal(repr(value))
        if isinstance(value, bytes | bytearray | memoryview):
            try:
                return bytes(value).decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError("holds bytes that aren't text: select them as text") from None
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, str) and _WRITTEN_TIME.fullmatch(value):
            # SQLite has no type for times.
            text = self._shape.model.model_fields[name].annotation in {str, str | None}
            return value if text else self._aware(datetime.fromisoformat(value))
        if isinstance(value, datetime):
            return self._aware(value)
        return value

    def _aware(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            value = value.replace(tzinfo=self._zone)
        return value.astimezone(UTC)

    # --- the database ---------------------------------------------------------------------

    def _url(self) -> URL:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(self.settings.database_url.get_secret_value())
        except ArgumentError:
            raise SettingsError("database_url: isn't a URL: sqlite:///FILE, or like it") from None
        return url.set(drivername=DRIVERS[url.drivername.partition("+")[0]])

    def _statement(self, since: Any) -> tuple[TextClause, dict[str, Any]]:
        from sqlalchemy import text

        inner = self.settings.query.strip().rstrip(";")
        if not inner:
            inner = f"SELECT * FROM {self.settings.view}"  # noqa: S608 - checked to be a name
        # A query of the operator's may have colons of its own: only ours is a parameter.
        inner = re.sub(r"(?<![:\\]):(?=\w)", r"\\:", inner)
        said = f"SELECT * FROM (\n{inner}\n) AS one"  # noqa: S608 - that is what it is for
        if since is None:
            return text(said), {}
        mark = self.settings.watermark
        return text(f"{said} WHERE one.{mark} >= :since ORDER BY one.{mark}"), {"since": since}

    async def _read(self, since: Any) -> AsyncGenerator[_Step, None]:
        """(names, rows) of the query, a few hundred at a time, at least once."""
        url = self._url()
        reader = self._by_asyncio if url.get_backend_name() == "postgresql" else self._by_thread
        async with aclosing(reader(url, since)) as steps:
            while True:
                try:
                    async with asyncio.timeout(self.settings.timeout_s):
                        step = await anext(steps, None)
                except TimeoutError:
                    raise UnavailableError(
                        f"{self.name}: no answer within {self.settings.timeout_s:g} s: make the "
                        "query quicker (an index on the watermark), or raise timeout_s"
                    ) from None
                if step is None:
                    return
                yield step

    async def _by_asyncio(self, url: URL, since: Any) -> AsyncGenerator[_Step, None]:
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        statement, values = self._statement(since)
        engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": CONNECT_S})
        try:
            with self._told():
                async with engine.connect() as connection:
                    await connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                    result = await connection.stream(statement, values)
                    names = list(result.keys())
                    some = True
                    while some:
                        rows = await result.fetchmany(AT_A_TIME)
                        some = bool(rows)
                        yield names, [tuple(row) for row in rows]
        finally:
            await engine.dispose()

    async def _by_thread(self, url: URL, since: Any) -> AsyncGenerator[_Step, None]:
        steps = self._in_thread(url, since)
        try:
            with self._told():
                while (step := await asyncio.to_thread(next, steps, None)) is not None:
                    yield step
        finally:
            with suppress(ValueError):  # given up in the midst: its thread closes it
                await asyncio.to_thread(steps.close)

    def _in_thread(self, url: URL, since: Any) -> Generator[_Step, None, None]:
        """Runs in whatever thread asks for the next step, one at a time."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        statement, values = self._statement(since)
        options: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": int(self.settings.timeout_s) + 1,
        }
        if url.get_backend_name() == "sqlite":
            # A file that isn't there must not be made.
            url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
            options = {"check_same_thread": False, "timeout": CONNECT_S}
        engine = create_engine(url, poolclass=NullPool, connect_args=options)
        try:
            with engine.connect() as connection:
                if url.get_backend_name() == "sqlite":
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                else:
                    connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
                    connection.rollback()
                streaming = connection.execution_options(stream_results=True)
                result = streaming.execute(statement, values)
                names = list(result.keys())
                rows = [tuple(row) for row in result.fetchmany(AT_A_TIME)]
                yield names, rows
                while rows:
                    rows = [tuple(row) for row in result.fetchmany(AT_A_TIME)]
                    yield names, rows
        finally:
            engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A driver's errors as ours: without statement, values and passwords."""
        from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

        try:
            yield
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"sources.{self.name}: {error.name} isn't installed: pip install duewatch[mysql]"
            ) from None
        except (OperationalError, InterfaceError, OSError) as error:
            said = self._words(error)
            if _is_a_mistake(said):
                raise InputError(f"{self.name}: the query failed: {said}") from None
            raise UnavailableError(
                f"{self.name}: {self.place} can't be read: {said}: check that it runs, and that "
                "the account may read"
            ) from None
        except DBAPIError as error:
            raise InputError(f"{self.name}: the query failed: {self._words(error)}") from None
        except SQLAlchemyError as error:
            raise InputError(f"{self.name}: can't be read: {type(error).__name__}") from None

    def _words(self, error: Exception) -> str:
        """The first line of what the driver said, with no password in it."""
        lines = str(getattr(error, "orig", None) or error).splitlines()
        said = lines[0][:300] if lines else type(error).__name__
        password = self._url().password
        return said.replace(str(password), "***") if password else said


def _is_a_mistake(said: str) -> bool:
    """SQLite and MySQL tell a wrong query by the same class as a database that is away."""
    return bool(
        re.search(
            r"no such (table|column|function)|syntax error|near \"|readonly|"
            r"\((1044|1045|1046|1049|1054|1064|1142|1143|1146|1305|1356|1792)\b",
            said,
        )
    )


def _higher(highest: Any, value: Any) -> Any:
    if value is None:
        return highest
    return value if highest is None or value > highest else highest


def _mark_out(value: Any) -> dict[str, str]:
    """A watermark as it is kept: its type goes along, because the database compares by it."""
    if isinstance(value, datetime | date):
        return {"type": type(value).__name__, "value": value.isoformat()}
    kept = {"int": int, "Decimal": Decimal, "str": str, "float": float}
    name = type(value).__name__
    if name not in kept:
        raise InputError(f"a watermark is a time, a number or text, not {name}: choose another")
    return {"type": name, "value": repr(value) if name == "float" else str(value)}


def _mark_in(kept: Mapping[str, str] | None) -> Any:
    if not kept:
        return None
    readers: dict[str, Any] = {
        "datetime": datetime.fromisoformat,
        "date": date.fromisoformat,
        "int": int,
        "Decimal": Decimal,
        "float": float,
    }
    return readers.get(kept["type"], str)(kept["value"])
