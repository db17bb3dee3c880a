"""Who may import whom: each row of the tables with its reason. Imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Lowest first: a part of workers/ imports only from the floors below its own.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),  # everything may raise
    # states, signatures, SMS parts, addresses: pure; spans, which every part may open
    frozenset({"model", "links", "sms", "addresses", "vendor_signature", "traces"}),
    # what this process did, counted; who is told of states, and how that is signed; who signs in
    frozenset({"meter", "endpoints", "sign_in"}),
    # these know each other by nothing but the model, so that each can be replaced alone
    frozenset({"providers", "sources", "render", "store", "settings"}),
    # the ladders in force; what producers may write, and who they are
    frozenset({"cadences", "envelope"}),
    frozenset({"event_types"}),
    frozenset({"records"}),  # rows as the planner sees them
    # what state a record is in, what is to come of it, and what reminders led to
    frozenset({"judge", "outlook", "effect"}),
    frozenset({"core"}),  # what is watched, opened
    frozenset({"restore"}),  # whether a database that came back may send
    # how many at a time, how often to a number; what an outcome means
    frozenset({"places", "numbers", "outcomes"}),
    frozenset({"carriers"}),  # which provider carries a message
    # what waits for a place, in order; whether what was planned still holds, and how it reads
    frozenset({"hand", "last_look"}),
    frozenset({"foresight", "purse"}),  # seen before its turn; what may be spent on it
    frozenset({"commitment"}),  # that it is sent, written down before
    frozenset({"intake", "scan", "deliver", "webhooks"}),  # the acts
    # the bell, which app hangs up; producers' messages; files and other systems, read
    frozenset({"tasks", "events", "importing", "syncing"}),
    frozenset({"app"}),  # wiring only: whoever starts the product asks it
    # what operators see and change, by the command line and by HTTP alike
    frozenset({"by_hand", "shown", "tokens", "wishes", "previews"}),
    # what a role may do is said in the scopes of tokens; long work begun from a page
    frozenset({"users", "jobs"}),
    frozenset({"bulk", "exports"}),  # what jobs do: many moves, whole tables
    frozenset({"web"}),  # the network's door
)  # what is named nowhere here (cli, demo) is the ground floor's door: it may import all
NEIGHBOURS = {
    ("intake", "scan"): "an event may be due at once",
    ("render", "providers"): "what is rendered is what a provider is handed",
    ("store", "providers"): "a report is kept as the provider worded it",
    ("settings", "providers"): "each provider's file says which settings it has",
}
PLACES = {  # one library, one place: replacing it is a change to that place
    "dramatiq": ("workers/tasks/",),  # the broker only rings
    "apscheduler": ("schedules/clock.py",),  # it only ticks
    "jinja2": ("workers/render/",),  # templates see plain values and a sandbox
    # all SQL on our tables is named in the store, app makes engines, sql reads others' databases
    "sqlalchemy": ("workers/store/", "workers/app.py", "workers/sources/sql.py"),
    "alembic": ("workers/store/",),
    "aiohttp.web": ("workers/web/",),
    # HTTP clients, but for the web
    "aiohttp": ("workers/web/", "workers/providers/", "workers/sources/", "workers/webhooks/"),
    "aiosmtplib": ("workers/providers/",),
    "click": ("workers/cli", "workers/demo"),  # only people's commands print and ask
    "rich": ("workers/cli", "workers/demo"),
    "xlsxwriter": ("workers/render/", "workers/demo/"),  # the demo makes files as people have them
    "typst": ("workers/render/",),
    "matplotlib": ("workers/render/charts.py",),
    "PIL": ("workers/render/charts.py",),
    "python_calamine": ("workers/sources/",),
    "opentelemetry": ("workers/traces.py",),  # optional, and loaded only when it is wanted
    "prometheus_client": ("workers/web/",),
    "joserfc": ("workers/web/openid.py",),  # what a provider signs is checked there
    "argon2": ("workers/users.py",),  # passwords are checked there and nowhere else
    "uvloop": ("workers/daemon.py", "bench/"),  # which loop it runs on is the process's choice
    "pickle": (),  # a stored object is code that somebody else may have written
}
PURE = ("asyncio", "socket", "http", "urllib.request", "smtplib", "sqlite3", "structlog", "logging")
CLOCK_CALLS = {"now", "utcnow", "today", "time", "monotonic"}


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Each module's path within the repository, and its tree."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each import's line and full dotted name (`from aiohttp import web` is aiohttp.web)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def floor(part: str) -> int | None:
    """The floor of a part of workers/, or None for one that may import all."""
    return next((at for at, parts in enumerate(FLOORS) if part in parts), None)


def trespasses(path: str, tree: ast.Module) -> Iterator[str]:
    """Every import of a module that the tables forbid, as a sentence."""
    pure = path.startswith("schedules/")
    here = None if pure else Path(path).parts[1].removesuffix(".py")
    for line, name in imported(tree):
        at = f"{path}:{line} imports {name}"
        if pure and within(name, "workers"):
            yield f"{at}: what is due knows nothing of how it gets done"
        if pure and any(within(name, package) for package in PURE):
            yield f"{at}: schedules/ is pure, it reads and writes nothing"
        for library, places in PLACES.items():
            if within(name, library) and not path.startswith(places or "nowhere"):
                yield f"{at}: only {' and '.join(places) or 'nothing'} may"
        if here and within(name, "workers") and name.count("."):
            there = name.split(".")[1]
            low, high = floor(there), floor(here)
            if there == here or high is None or (here, there) in NEIGHBOURS:
                continue
            if there[0].islower() and (low is None or low >= high):
                yield f"{at}: {there} isn't on a floor below {here}"


def test_imports_point_from_workers_to_schedules_and_down_the_floors() -> None:
    found = [
        fault for path, tree in modules("schedules", "workers") for fault in trespasses(path, tree)
    ]

    assert found == []


def test_policy_is_told_the_time_and_never_reads_it() -> None:
    found = [
        f"{path}:{node.lineno} calls {ast.unparse(node.func)}(): take the instant as an argument"
        for path, tree in modules("schedules")
        if path != "schedules/clock.py"  # it ticks: the time is its trade
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCK_CALLS
        and ast.unparse(node.func.value) in {"datetime", "date", "time", "datetime.datetime"}
    ]

    assert found == []


def test_the_tables_catch_what_they_forbid() -> None:
    wrong = {
        "schedules/planner.py": "import workers.errors",
        "schedules/rules/payment.py": "from sqlalchemy import select",
        "workers/errors.py": "from workers.model import Outcome",
        "workers/store/core.py": "from workers.render import mail",
        "workers/providers/smtp.py": "from aiohttp import web",
        "workers/scan.py": "def late():\n    from workers import deliver",
        "workers/cli.py": "import pickle",
    }

    assert [path for path, text in wrong.items() if not [*trespasses(path, ast.parse(text))]] == []
