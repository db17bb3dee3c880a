"""All whose speed is compared send the same message."""

from __future__ import annotations

from pathlib import Path

import jinja2

from bench.message import rendered, templates
from bench.page import write_section
from bench.send import NAMES, Speed, tell


def test_our_templates_say_what_the_peers_messages_say() -> None:
    name, ref = "王小7", "S7"
    values = {"recipient": {"name": name}, "items": [{"ref": ref}]}
    environment = jinja2.Environment(autoescape=True)
    ours = {
        part: environment.from_string(text).render(values) for part, text in templates().items()
    }
    subject, text, html = rendered(name, ref)

    assert ours["subject.txt"] == subject
    assert ours["txt"].split() == text.split()
    assert ours["html"].split() == html.split()
    assert html.count("</td><td align") == 10


def test_the_page_tells_each_one_beside_celery(tmp_path: Path) -> None:
    found = [Speed("postgresql-2", 100, 1100.4, 1.451), Speed("celery", 100, 550.2, 2.4)]
    tell(tmp_path / "page.md", found, 3)
    lines = (tmp_path / "page.md").read_text("utf-8").splitlines()

    assert f"| {NAMES['postgresql-2']} | 1,100 | 2.00 | 1.45 |" in lines
    assert f"| {NAMES['celery']} | 550 | 1.00 | 2.40 |" in lines


def test_a_script_writes_its_own_section_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for title, text in (("One", "first"), ("Two", "second"), ("One", "third\n\nand more")):
        write_section(page, title, text)

    head, *sections = page.read_text("utf-8").split("\n## ")
    assert head.startswith("# Performance\n")
    assert sections == ["One\n\nthird\n\nand more\n", "Two\n\nsecond\n"]
