"""How long people stay signed in to the pages: settings. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ConsoleSettings(BaseModel):
    """The pages for people: how long somebody stays signed in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    idle_minutes: int = Field(
        60, ge=5, le=1440, description="Minutes without a click that end a session."
    )
    session_hours: int = Field(
        12, ge=1, le=720, description="Hours after which a session ends in any case."
    )
