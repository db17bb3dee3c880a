"""Two years of clock changes in twelve zones, by virtual time."""

from __future__ import annotations

import asyncio
import os
import sys
import xml.etree.ElementTree as ET

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.servers import ROOT
from tests.unit.planning import ZONES
from tests.unit.test_dst_sweep import TIMES, days

SWEEP = "tests/unit/test_dst_sweep.py"
DATES = sum(len(days(zone)) for zone in ZONES)
PARTS = ("wall_clock_time", "daily_stage", "persons_digest")
"""What is swept, by words of the tests' names."""


async def run(trial: Trial) -> None:
    report = trial.folder / "sweep.xml"
    words = ("-q", "-p", "no:cacheprovider", "-o", f"pythonpath={trial.tree} {ROOT}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "pytest", *words, f"--junitxml={report}", SWEEP),
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
    broken = [one.get("name", "") for one in cases if len(one)]
    swept = [sum(part in one.get("name", "") for one in cases) for part in PARTS]
    zones = len(ZONES)
    trial.note("zones", zones)
    trial.note("local dates", DATES)
    trial.note("wall-clock times", f"{DATES * len(TIMES):,} ({len(TIMES)} a date)")
    trial.note("daily stages", f"{DATES:,}")
    trial.note("digests", f"{DATES * len(TIMES):,}")
    wanted = [zones, zones, zones * len(TIMES)]
    trial.require("all zones and times were swept", swept == wanted, said.decode()[-800:])
    trial.require("missing 0, double 0, at another instant 0", not broken, broken[:5])


FAULTS = [
    Fault(
        id="F19",
        injected="two years of clock changes in 12 zones, by virtual time: half hours, "
        "midnights, a day left out, Ramadan; at 00:00, 01:30, 02:00, 02:30, 03:00",
        expected="a time that isn't there is the first instant after it, one that is there twice "
        "the first of both",
        passes="each local date exactly once, at the instant reckoned in another way",
        full=DATES * len(TIMES),
        short=0,
        run=run,
    ),
]
