"""What the console says is said in every language it has, with the same things filled in."""

from __future__ import annotations

import io
import re
from pathlib import Path

from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg

from tests.house.test_imports import ROOT
from workers.render.catalogue import read_catalogues

CONSOLE = ROOT / "templates" / "console"
KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "N_", "t", "say")),
    **dict.fromkeys(("ngettext",), (1, 2)),
}
_FILLED = re.compile(r"%\((\w+)\)")


def texts() -> set[str]:
    """Every English text of templates and code, as `make catalogues` finds it."""
    mapping = io.StringIO((CONSOLE / "locale" / "babel.cfg").read_text())
    method, options = parse_mapping_cfg(mapping)  # type: ignore[no-untyped-call]
    found = set()
    for _, _, message, _, _ in extract_from_dir(
        ROOT, method, options, keywords=KEYWORDS, directory_filter=_of_the_product
    ):
        found.add(message[0] if isinstance(message, tuple) else message)
    return found


def _of_the_product(path: str | Path) -> bool:
    return not Path(path).name.startswith(".") and Path(path).name not in {"tests", "bench"}


def test_every_text_is_said_in_every_language() -> None:
    said = texts()
    assert len(said) > 300
    for language, catalogue in read_catalogues(CONSOLE / "locale").items():
        if language != "en":
            missing = sorted(one for one in said if one not in catalogue.texts)
            assert missing == [], f"{language}: make catalogues, then translate"
            assert sorted(catalogue.texts.keys() - said) == [], f"{language}: nobody says these"


def test_a_translation_fills_in_what_the_text_does() -> None:
    for catalogue in read_catalogues(CONSOLE / "locale").values():
        for text, forms in catalogue.texts.items():
            for form in forms:
                assert {*_FILLED.findall(form)} == {*_FILLED.findall(text)}, text
