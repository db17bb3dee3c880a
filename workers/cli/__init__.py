"""Ops by hand: the command `duewatch`. Commands are loaded when they are called, so help is quick.

Exit codes: 0 done; 1 done, but something was refused or is wrong; 2 the call was wrong (correct
it); 3 Duewatch or something it needs failed (try again, then read the logs); 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from workers.errors import CallerError, DuewatchError, HeldError

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (file in this folder, one line of help)
    "run": ("roles", "Web, scheduler and worker in one process."),
    "web": ("roles", "Only the web server."),
    "scheduler": ("roles", "Only the clock."),
    "worker": ("roles", "Only delivery."),
    "demo": ("roles", "The whole product on made-up data, with an inbox to look at."),
    "init": ("setup", "Write a commented settings file."),
    "settings": ("setup", "Show every setting and where it comes from."),
    "doctor": ("setup", "Check everything that sending needs, and how to mend it."),
    "migrate": ("setup", "Bring the database's schema up to date."),
    "verify": ("setup", "Prove that the ledger adds up."),
    "backup": ("safety", "Copy the SQLite database while the daemon goes on."),
    "resume-after-restore": ("safety", "Send again after a restore, once you saw what would go."),
    "move-database": ("safety", "Move everything to PostgreSQL, or back to SQLite."),
    "prune": ("safety", "Remove what is over and old."),
    "simulate": ("simulate", "Live a made-up year and check it against an independent oracle."),
    "completion": ("setup", "Print the shell's completion script."),
    "import": ("files", "Import records, contacts and lists from CSV or XLSX."),
    "sync": ("sync", "Bring in what a source has; --dry-run says what would change."),
    "sources": ("sync", "The sources, their schedules and last sync."),
    "scan": ("due", "Look for what is due and plan notifications."),
    "deliver": ("due", "Send what is pending now."),
    "forecast": ("outlook", "Who will get what in the coming days."),
    "explain": ("due", "Why a record's people were, or weren't, told."),
    "effect": ("effect", "What reminders led to, by rule and stage."),
    "rules": ("due", "The rules, their cadence and last run."),
    "digest": ("digest", "A partner's month in figures: show it, write it, send it."),
    "pause": ("due", "Stop a rule's scans and sends."),
    "resume": ("due", "Let a paused rule go on."),
    "list": ("messages", "Notifications, newest first."),
    "show": ("messages", "One notification, whole."),
    "retry": ("messages", "Send failed or suppressed notifications again."),
    "release": ("messages", "Send parked notifications after all."),
    "cancel": ("messages", "Stop pending or parked notifications."),
    "preview": ("messages", "Write a message to a file, from a sample or a real record."),
    "providers": ("providers", "How each provider stands; leave one alone by hand."),
    "send-test": ("messages", "Send one marked test message to an address."),
    "records": ("people", "Records by kind and state."),
    "snooze": ("people", "Remind of a record later."),
    "close": ("people", "Close a record by hand."),
    "reopen": ("people", "Undo a close by hand."),
    "contacts": ("people", "Contacts of a partner."),
    "prefer": ("prefer", "What a contact gets, and how."),
    "quarantine": ("quarantine", "What producers sent and couldn't be taken."),
    "users": ("users", "Who signs in to the console, and what each may do."),
    "tokens": ("tokens", "Who may ask by HTTP, and what."),
    "schemas": ("producers", "What producers may send, as JSON Schema."),
    "seal": ("producers", "Seal an event as a producer does."),
    "webhooks": ("webhooks", "Endpoints that are told what became of notifications."),
    "suppress": ("people", "Stop writing to an address."),
    "unsuppress": ("people", "Write to an address again."),
    "suppressions": ("people", "Who isn't written to, and why."),
    "audit": ("people", "What was done by hand."),
}
SECTIONS: dict[str, tuple[str, ...]] = {
    # a group of the help page: the files whose commands it shows
    "Run": ("roles",),
    "Set up and check": ("setup", "simulate"),
    "Keep safe": ("safety", "users", "tokens"),
    "Bring in": ("files", "sync", "quarantine", "producers"),
    "What is due": ("due", "outlook", "effect"),
    "Figures": ("digest",),
    "Messages": (
        "messages",
        "providers",
        "webhooks",
    ),
    "Records and people": ("people", "prefer"),
}


class LazyGroup(click.Group):
    """Knows its commands by name and one line; loads a file only when one of its is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, loaded."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"workers.cli.{COMMANDS[name][0]}")
        found = getattr(module, name.replace("-", "_") + "_command")
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the nearest command when there is none of that name."""
        if args and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else " See duewatch --help."
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for."""
        for title, files in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name, text) for name, (where, text) in COMMANDS.items() if where in files]
                )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done · 1 done, but something was refused or is wrong · 2 the call was "
    "wrong · 3 Duewatch or something it needs failed · 130 interrupted.",
)
@click.option("--settings", "file", metavar="FILE", help="Settings file (default duewatch.toml).")
@click.option("--by", metavar="NAME", help="Who acts, for the audit (default: your user name).")
@click.option("-v", "--verbose", is_flag=True, help="Show the logs of one-off commands too.")
@click.version_option(package_name="duewatch", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, file: str | None, by: str | None, verbose: bool) -> None:
    """Tells the right person, once, in time, what they must act on.

    \b
    duewatch import contacts.csv payments.xlsx     bring in records and people
    duewatch scan --dry-run                        see who would be told what
    duewatch forecast --days 7                     and in the coming days
    duewatch run                                   and leave it running
    """
    ctx.obj = {"file": file, "by": by or _user(), "verbose": verbose}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def main() -> NoReturn:
    """The entry point: runs a command and turns errors into one line and an exit code."""
    try:
        code = cli.main(standalone_mode=False, prog_name="duewatch")
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (CallerError, HeldError) as error:
        _fail(str(error), 2)
    except DuewatchError as error:
        _fail(str(error), 3)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _is_away(error):
            _fail(f"the database can't be reached just now: {type(error).__name__}", 3)
        raise


def _is_away(error: Exception) -> bool:
    store: Any = sys.modules.get("workers.store")
    return store is not None and bool(store.is_away(error))


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"duewatch: {text}", err=True)
    sys.exit(code)
