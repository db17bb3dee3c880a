"""The long version of a simulation runs when it is asked for: make test ARGS="-m slow"."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only when -m names it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" not in str(config.getoption("markexpr")):
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
