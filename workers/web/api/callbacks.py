"""/callbacks: providers' status reports."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from workers.web.api._operation import Asked, Call, Operation, Raw


class CallbackPlace(Asked):
    """Whose report, and the key that shows it."""

    name: str = Field(min_length=1, max_length=64, description="The provider in the settings.")
    key: str = Field(min_length=1, max_length=200, description="As the provider was given it.")


async def _post(call: Call) -> web.Response:
    return await call.doors.callbacks.post(call.request)


OPERATIONS = (
    Operation(
        "POST",
        "/callbacks/{name}/{key}",
        "reportStatus",
        "Take a provider's status report",
        _post,
        place=CallbackPlace,
        open=True,
        raw=Raw(bodies={"*/*": {}}, answers={"*/*": {}}),
        text="In whatever form the provider has. Without a token: the key in the path is the "
        "secret, and providers that sign are checked.",
        problems=(
            "not-found",
            "invalid-report",
            "content-encoding",
            "too-large",
            "too-slow",
            "bad-body",
        ),
    ),
)
