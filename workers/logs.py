"""Logs: structured, one event a line, UTC, without personal data.

Every value passes a filter that masks mail addresses and phone numbers, so that a careless error
text can't leak one; tracebacks carry no local variables.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from io import RawIOBase
from typing import Any, TextIO

import structlog

from workers.settings import Logs

_MAIL = re.compile(r"[^\s@<>\"'(),:;]+@[^\s@<>\"'(),:;]+")
_PHONE = re.compile(r"(?<![\w.:-])\+?\d{11,15}(?![\w.-])")


def mask(text: str) -> str:
    """The text with mail addresses and phone numbers hidden."""
    return _PHONE.sub("<number>", _MAIL.sub("<address>", text))


def _without_personal_data(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {key: mask(value) if isinstance(value, str) else value for key, value in event.items()}


class _Unfailing:
    """A stream that leaves out what can't be written, as on a full disk: no message waits for its
    line in a log.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # What a buffer kept of a failed write would fail once more at exit, and be its code (120).
        self._raw: RawIOBase | None = getattr(getattr(stream, "buffer", None), "raw", None)

    def write(self, text: str) -> int:
        with suppress(OSError):
            if self._raw is None:
                self._stream.write(text)
                return len(text)
            self._stream.flush()
            left = memoryview(text.encode("utf-8", "backslashreplace"))
            while left and (written := self._raw.write(left)):
                left = left[written:]
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logs(settings: Logs, *, least: str | None = None) -> None:
    """Sets up logging for this process; `least` overrides the settings' level."""
    level = getattr(logging, (least or settings.level).upper())
    plain = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: Any
    if plain:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    stream: Any = _Unfailing(sys.stderr)
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not plain:
        chain.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*chain, _without_personal_data, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard library: only what is wrong, and in the same words.
    logging.basicConfig(level=max(level, logging.WARNING), stream=stream, force=True)
    logging.getLogger().handlers[0].addFilter(_mask_record)


def _mask_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = mask(record.getMessage()), None
    return True
