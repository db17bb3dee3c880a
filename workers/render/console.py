"""The console's pages: templates/console/pages/, in each language that has catalogues.

Templates say what they say in English, by gettext; see workers.render.catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from workers.render.catalogue import SOURCE, Catalogue, read_catalogues
from workers.render.formats import Formats


class ConsolePages:
    """Renders the console's pages in each language."""

    def __init__(self, folder: Path, zone: ZoneInfo, static: Mapping[str, str]) -> None:
        """`folder` is templates/console, `static` the addresses of what is served as it is.

        Raises TemplateError when a catalogue is wrong.
        """
        self.catalogues = read_catalogues(folder / "locale")
        self.formats = {name: Formats(one, zone) for name, one in self.catalogues.items()}
        loader = FileSystemLoader(folder / "pages", encoding="utf-8")
        self._environments = {
            name: self._environment(loader, one, static) for name, one in self.catalogues.items()
        }

    def _environment(
        self, loader: FileSystemLoader, catalogue: Catalogue, static: Mapping[str, str]
    ) -> ImmutableSandboxedEnvironment:
        made = ImmutableSandboxedEnvironment(
            loader=loader,
            extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        made.install_gettext_translations(catalogue, newstyle=True)  # type: ignore[attr-defined]
        made.globals["static"] = static
        formats = self.formats[catalogue.language]
        made.filters.update(
            {
                name: getattr(formats, name)
                for name in (
                    *("number", "share", "money", "size", "day", "short_day", "month", "weekday"),
                    *("moment", "clock", "span"),
                )
            },
            ago=_ago(formats),
        )
        return made

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags of the languages there are, English first."""
        return (SOURCE, *(name for name in self.catalogues if name != SOURCE))

    @property
    def own_names(self) -> dict[str, str]:
        """What each language calls itself, by tag."""
        return {tag: self.formats[tag].own_name for tag in self.languages}

    def render(self, template: str, language: str, **values: Any) -> str:
        """One page. Raises jinja2's errors: these templates are the product's own."""
        found = self._environments[language].get_template(template)
        return found.render(language=language, **values)


def _ago(formats: Formats) -> Any:
    @pass_context
    def ago(context: Context, at: datetime | None) -> Markup | str:
        return formats.ago(at, context["now"])

    return ago
