"""The flame graph: boxes as wide as their share, each upon its caller."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bench.flame import HIGH, WIDE, draw, read

STACKS = """\
<string>:<module>;workers/cli/roles.py:_serve;workers/deliver.py:run;workers/scan.py:go 30
<string>:<module>;workers/cli/roles.py:_serve;workers/deliver.py:run;asyncpg/pool.py:<get> 10
<string>:<module>;workers/cli/frame.py:start 60
"""


def test_what_comes_before_deliveries_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text(STACKS)
    assert read(tmp_path / "stacks") == Counter(
        {
            ("workers/deliver.py:run", "workers/scan.py:go"): 30,
            ("workers/deliver.py:run", "asyncpg/pool.py:<get>"): 10,
        }
    )


def test_a_box_is_as_wide_as_its_share_and_stands_upon_its_caller(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text(STACKS)
    drawn = draw(read(tmp_path / "stacks"))
    form = r'translate\((\S+) (\S+)\)"><title>(\S+) \S+</title><rect width="(\S+)"'
    boxes = {name: (float(x), int(y), float(w)) for x, y, name, w in re.findall(form, drawn)}
    run, went = boxes["workers/deliver.py:run"], boxes["workers/scan.py:go"]
    waits = boxes["asyncpg/pool.py:&lt;get&gt;"]
    assert run[2] == WIDE - 0.5
    assert (went[2], waits[2]) == (WIDE * 0.75 - 0.5, WIDE * 0.25 - 0.5)
    assert (waits[0], went[0]) == (0, WIDE * 0.25)
    assert run[1] - went[1] == HIGH
