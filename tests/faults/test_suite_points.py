"""The copy of the product that dies at named points has each of them."""

from __future__ import annotations

import ast

import pytest

from tests.faults.suite.mutants import copied
from tests.faults.suite.named_points import CUTS, POINTS
from tests.faults.suite.points import CHANGES, with_points
from tests.faults.suite.servers import ROOT


def test_a_changed_copy_comes_by_each_named_point_once() -> None:
    with with_points(ROOT) as tree:
        files = {change.file: (tree / change.file).read_text("utf-8") for change in CHANGES}

    together = "".join(files.values())
    called_for = {*POINTS, *CUTS[1:]}
    assert {point: together.count(f'"{point}"') for point in called_for} == dict.fromkeys(
        called_for, 1
    )
    for name, text in files.items():
        ast.parse(text, name)


def test_a_product_that_has_changed_at_a_point_is_refused() -> None:
    with copied() as tree:
        file = tree / CHANGES[0].file
        file.write_text(file.read_text("utf-8") + CHANGES[0].old, "utf-8")
        with pytest.raises(ValueError, match="has 2 times"), with_points(tree):
            pass
