"""All whose speed is compared send the same message."""

from __future__ import annotations

import jinja2

from bench.message import rendered, templates
from bench.send import NAMES, Speed, page


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


def test_the_page_tells_each_one_beside_celery() -> None:
    found = [Speed("postgresql-2", 100, 1100.4, 1.451), Speed("celery", 100, 550.2, 2.4)]
    lines = page(found, 3).splitlines()

    assert f"| {NAMES['postgresql-2']} | 1,100 | 2.00 | 1.45 |" in lines
    assert f"| {NAMES['celery']} | 550 | 1.00 | 2.40 |" in lines
