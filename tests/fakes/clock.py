"""A clock that tests wind: it stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands in for the product's clock, a callable that gives an aware UTC instant."""

    def __init__(self, at: datetime) -> None:
        self._at = self._checked(at)

    def __call__(self) -> datetime:
        return self._at

    def now(self) -> datetime:
        """The instant it shows, aware UTC."""
        return self._at

    def advance(self, span: timedelta) -> datetime:
        """Wind it on by `span` and return the new instant; a negative span is a clock set back."""
        self._at += span
        return self._at

    def set(self, at: datetime) -> datetime:
        """Show another instant. Raises ValueError for one without a zone."""
        self._at = self._checked(at)
        return self._at

    @staticmethod
    def _checked(at: datetime) -> datetime:
        if at.tzinfo is None:
            raise ValueError(f"{at} has no zone: give an aware instant")
        return at.astimezone(UTC)
