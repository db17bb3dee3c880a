"""/settings: every setting in force, secrets masked, what each means and what was changed."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel

from workers import shown
from workers.render.formats import N_
from workers.settings import Settings
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit


def _meaning(key: str) -> str:
    """The description of a setting, "" for what a table of a name holds."""
    model: Any = Settings
    for part in key.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
        field = model.model_fields.get(part)
        if field is None:
            return ""
        model, text = field.annotation, field.description or ""
    return text


async def _list(visit: Visit) -> web.Response:
    values = shown.settings(visit.app.settings)
    defaults = shown.settings(Settings())
    groups: dict[str, list[tuple[str, Any, bool, str]]] = {}
    for key, value in values.items():
        section = key.partition(".")[0] if "." in key else ""
        changed = defaults.get(key) != value
        groups.setdefault(section, []).append((key, value, changed, _meaning(key)))
    return visit.page("settings.html", groups=groups)


ROUTES = (Route("GET", "/settings", _list, Scope.ADMIN),)
NAV = Nav("system", 60, "/settings", N_("Settings"), Scope.ADMIN)
