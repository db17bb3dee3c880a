"""How long a template may take: one that never ends would hold up everything beside it.

Text is rendered where messages are sent, so nothing but a signal can end it. The clock is the
process' own CPU time: a busy machine ends nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RENDER_S = 5.0
"""Seconds of CPU, a thousand times what a mail takes."""


class EndlessError(Exception):
    """A template took too long."""


@contextmanager
def limited(seconds: float = RENDER_S) -> Iterator[None]:
    """Raises EndlessError in the block after so many seconds of CPU.

    Without effect outside of the main thread and on Windows, where there is no such signal.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise EndlessError(f"it didn't end within {RENDER_S:g} s: look for a loop without an end")
