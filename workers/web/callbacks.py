"""POST /callbacks/{name}/{key}: providers' status reports, by the provider's name in the settings.

Vendors send them unauthenticated, so the path can't be guessed, and providers that sign check the
signature themselves. A report that fits no message is taken, counted and logged: asking the vendor
to send it again would change nothing.
"""

from __future__ import annotations

import hmac
from collections import Counter

import structlog
from aiohttp import web

from workers.app import App
from workers.errors import InputError
from workers.providers import CallbackRequest, Report
from workers.web.problems import ProblemError, read_body

log = structlog.get_logger("callbacks")

MAX_BODY_BYTES = 64 * 1024


class Callbacks:
    """The door for providers. `outcomes` counts reports by provider and what became of them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.outcomes: Counter[tuple[str, str]] = Counter()

    async def post(self, request: web.Request) -> web.Response:
        """Takes a provider's report. Raises ProblemError 404 unless the path has its key."""
        name = request.match_info["name"]
        wanted = self._app.callback_keys.get(name, "")
        given = request.match_info["key"].encode("utf-8", "replace")
        # An unknown name takes as long as a wrong key.
        if not hmac.compare_digest(given, wanted.encode()) or not wanted:
            raise ProblemError("not-found")
        provider = self._app.by_name[name]
        body = await read_body(request, MAX_BODY_BYTES)
        asked = CallbackRequest(
            url=self._app.settings.base_url + request.path_qs,
            headers=dict(request.headers),
            body=body,
        )
        try:
            reports = provider.reports(asked)
            if any(not _is_storable(report) for report in reports):
                raise InputError(f"{provider.name}: the status report contains NUL")
        except InputError as error:
            self.outcomes[name, "refused"] += 1
            raise ProblemError("invalid-report", str(error)) from None
        for report in reports:
            known = await self._app.store.outbox.receive(name, report, self._app.clock())
            self.outcomes[name, "known" if known else "unknown"] += 1
            if not known:
                log.warning("a report fits no message", provider=name, status=report.status)
        media, answer = provider.reports_answer()
        return web.Response(text=answer, content_type=media)


def _is_storable(report: Report) -> bool:
    """PostgreSQL keeps no NUL, and half a surrogate pair is no text."""
    text = report.reference + report.detail + (report.uid or "")
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text
