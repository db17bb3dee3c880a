"""What handing a mail to a relay costs: our session beside aiosmtplib's own, in one run.

    .venv/bin/python -m bench.smtp [--n 3000] [--times 3]

Both send the same bytes over one kept connection to Postfix's smtp-sink, each in turn, on the event
loop that the daemon has. A JSON line each: mails a second, and milliseconds of CPU for each mail
(the median of the runs). Ours checks the envelope and the headers as well.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiosmtplib
import click

from bench.message import rendered
from bench.send import sink
from workers.daemon import event_loop
from workers.providers import Mail, ProviderContext
from workers.providers.smtp import Smtp, SmtpSettings
from workers.render.mail import Draft, build

SENDER, RECIPIENT = "desk@example.com", "wang@example.com"


def mail(number: int) -> Mail:
    """One mail of `bench.message`, built as ours are."""
    subject, text, html = rendered("王小", f"S{number}")
    draft = Draft(
        uid=f"u{number}",
        domain="example.com",
        sender_name="",
        sender_address=SENDER,
        recipient_name="王小",
        recipient_address=RECIPIENT,
        subject=subject,
        date=datetime.now(UTC),
        language="zh-CN",
        text=text,
        html=html,
    )
    return Mail(draft.uid, SENDER, RECIPIENT, subject, build(draft))


async def _timed(mails: list[Mail], send: Callable[[Mail], Awaitable[object]]) -> tuple[float, ...]:
    began, cpu = time.perf_counter(), time.process_time()
    for one in mails:
        await send(one)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return len(mails) / took, used / len(mails) * 1000


async def measure(count: int, times: int) -> dict[str, list[tuple[float, ...]]]:
    """(mails a second, milliseconds of CPU each) of every run, by who."""
    mails = [mail(number) for number in range(count)]
    found: dict[str, list[tuple[float, ...]]] = {"aiosmtplib": [], "ours": []}
    with sink() as port:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False)
        await client.connect()
        values = {"host": "127.0.0.1", "port": port, "tls": "none"}
        ours = Smtp(SmtpSettings.model_validate(values), ProviderContext())
        await ours.open()

        async def theirs(one: Mail) -> None:
            await client.sendmail(one.sender, [one.recipient], one.source)

        for _ in range(times):
            found["aiosmtplib"].append(await _timed(mails, theirs))
            found["ours"].append(await _timed(mails, ours.send))
        await client.quit()
        await ours.close()
    return found


@click.command()
@click.option("--n", "count", default=3000, show_default=True)
@click.option("--times", default=3, show_default=True)
def main(count: int, times: int) -> None:
    """Measures both, each in turn."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        found = runner.run(measure(count, times))
    for who, runs in found.items():
        rate, cpu = (sorted(values)[len(runs) // 2] for values in zip(*runs, strict=True))
        click.echo(json.dumps({"who": who, "per_second": round(rate), "cpu_ms": round(cpu, 4)}))


if __name__ == "__main__":
    main()
