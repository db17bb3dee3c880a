"""What the console says is said in every language it has, with the same things filled in."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg

from tests.house.test_imports import ROOT, modules
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
            more = {one for one in catalogue.texts if "\x04" not in one} - said
            assert sorted(more) == [], f"{language}: nobody says these"


def test_a_translation_fills_in_what_the_text_does() -> None:
    for catalogue in read_catalogues(CONSOLE / "locale").values():
        for text, forms in catalogue.texts.items():
            for form in forms:
                assert {*_FILLED.findall(form)} == {*_FILLED.findall(text)}, text


# --- reasons --------------------------------------------------------------------------------


def sentences(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every text of a module, with its place; what an f-string fills in is `%s`."""
    joined = [one for one in ast.walk(tree) if isinstance(one, ast.JoinedStr)]
    inside = {id(part) for one in joined for part in one.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inside:
                yield node, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "%s" for p in node.values)
            yield node, "".join(map(str, parts))


def given() -> dict[str, str]:
    """The reasons that rules and the planner give for a record or a stage: text -> module."""
    found: dict[str, str] = {}
    for path, tree in modules("schedules"):
        reasons: set[int] = set()
        for node in ast.walk(tree):
            values: list[ast.AST] = []
            match node:
                case ast.Call(func=ast.Name("Assessment"), args=[_, why, *_]):
                    values = [why]
                case ast.keyword(arg="why", value=why) | ast.Assign([ast.Name("why")], why):
                    values = [why]
                case ast.Return(ast.Tuple([ast.Attribute(ast.Name("Verdict")), why])):
                    values = [why]
                case ast.FunctionDef(name="applies"):
                    values = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
            reasons |= {id(part) for value in values for part in ast.walk(value)}
        found |= {t: path for one, t in sentences(tree) if id(one) in reasons and " " in t}
    return found


def test_every_reason_of_a_rule_is_said_in_every_language() -> None:
    reasons = given()
    assert len(reasons) > 60
    for language, catalogue in read_catalogues(CONSOLE / "locale").items():
        if language != "en":
            missing = {
                text: path
                for text, path in reasons.items()
                if catalogue.reason(text) == text and len(text.strip("%s:; ")) > len(" and ")
            }
            assert missing == {}, f"{language}: add them to reasons.po, or a file beside it"


def test_nothing_is_translated_that_no_rule_and_no_worker_gives() -> None:
    trees = [tree for _, tree in modules("schedules", "workers")]
    gives = "\n".join(text for tree in trees for _, text in sentences(tree))
    for catalogue in read_catalogues(CONSOLE / "locale").values():
        for key in catalogue.texts:
            context, _, text = key.rpartition("\x04")
            if context == "reason":
                pieces = [one.strip(" :;") for one in re.split(r"%\(\w+\)s", text)]
                lost = [one for one in pieces if one not in gives]
                assert lost == [], text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("the customer hasn't registered yet", "客户尚未注册"),
        ("moot: the record is closed: it is confirmed", "已无必要：记录已关闭：已确认"),
        (
            "contact C-1 has a masked sms address: import the full one",
            "联系人 C-1 的短信地址已脱敏：请导入完整地址",
        ),
        ("it waits to be confirmed; it isn't urgent", "等待确认; 不属于紧急消息"),
        ("asked for by phone; 100% sure", "asked for by phone; 100% sure"),
        ("5 of 7 %(x)s registrations are pending", "待处理报备 5 个，上限 7 %(x)s 个"),
        ("x" * 5_000, "x" * 5_000),
    ],
)
def test_a_reason_is_found_by_its_form_and_another_stays_as_it_is(reason: str, said: str) -> None:
    chinese = read_catalogues(CONSOLE / "locale")["zh-CN"]
    assert chinese.reason(reason) == said


def test_when_a_stage_is_told_is_said_in_words() -> None:
    chinese = read_catalogues(CONSOLE / "locale")["zh-CN"]
    assert chinese.cadence("due - 72 hours") == "截止前 72 小时"
    said = chinese.cadence("opened + 12 working days, then every 5 working days")
    assert said == "产生后 12 个工作日，之后每隔 5 个工作日"
