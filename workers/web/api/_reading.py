"""Reading a request strictly: each fault is named by its parameter or JSON pointer, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from workers.envelope import Fault, pointer_part, read_json, shape_faults
from workers.errors import InputError
from workers.web.api._operation import MAX_BODY_BYTES, Asked, Operation
from workers.web.problems import ProblemError, read_body

MAX_FAULTS = 20
"""Named of one request."""


def read_place(operation: Operation, request: web.Request) -> Asked:
    """The parameters of the path. Raises ProblemError 400."""
    return _parameters(operation.place, dict(request.match_info), "path")


def read_query(operation: Operation, request: web.Request) -> Asked:
    """The parameters of the query. Raises ProblemError 400."""
    twice = [name for name in request.query if len(request.query.getall(name)) > 1]
    if twice:
        faults = [
            {"parameter": name, "detail": "is there twice: send it once"}
            for name in dict.fromkeys(twice)
        ]
        raise ProblemError("invalid-parameter", errors=faults)
    return _parameters(operation.query, dict(request.query), "query")


async def read_request_body(operation: Operation, request: web.Request) -> tuple[Any, bytes]:
    """(the body as its model, as it was sent). Raises ProblemError 4xx."""
    model = operation.body
    content = await read_body(request, MAX_BODY_BYTES) if request.can_read_body else b""
    if model is None:
        if content.strip():
            raise ProblemError("invalid-body", "Send no body.", errors=[])
        return None, b""
    if not content and not is_needed(model):
        return model(), b"{}"
    media = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ProblemError(
            "media-type",
            "Send Content-Type: application/json.",
            headers={"Accept-Post": "application/json"},
        )
    try:
        said = read_json(content)
    except InputError as error:
        raise ProblemError("invalid-json", f"The body {error}.") from None
    if not isinstance(said, Mapping):
        raise _invalid([Fault("", "must be a JSON object")])
    if faults := list(shape_faults(said)):
        raise _invalid(faults)
    try:
        return model.model_validate_json(content), content
    except ValidationError as error:
        raise _invalid(list(faults_of(error, model))) from None


def is_needed(model: type[BaseModel]) -> bool:
    """Whether a body must be sent: not where every field of it may be left out."""
    return any(field.is_required() for field in model.model_fields.values())


def faults_of(error: ValidationError, model: type[BaseModel], place: str = "") -> Iterator[Fault]:
    """What is wrong, each with its JSON pointer (RFC 6901)."""
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        where = place + "".join(f"/{pointer_part(str(part))}" for part in one["loc"])
        yield Fault(where, _words(one, model))


def _invalid(faults: list[Fault]) -> ProblemError:
    shown = [{"field": one.field, "detail": one.detail} for one in faults[:MAX_FAULTS]]
    detail = "; ".join(f"{one.field or 'the body'} {one.detail}" for one in faults[:MAX_FAULTS])
    return ProblemError("invalid-body", detail, errors=shown)


def body_problem(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    """The problem of a body whose values are of the right types and can't be meant all the same."""
    return _invalid(list(faults_of(error, model)))


def _parameters(model: type[Asked], given: Mapping[str, str], where: str) -> Asked:
    faults = [
        {"parameter": one.field.removeprefix("/"), "detail": one.detail}
        for one in shape_faults(given)
    ]
    if not faults:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            faults = [
                {"parameter": one.field.removeprefix("/"), "detail": one.detail}
                for one in faults_of(error, model)
            ][:MAX_FAULTS]
    detail = "; ".join(f"{one['parameter'] or where} {one['detail']}" for one in faults)
    raise ProblemError("invalid-parameter", detail, errors=faults)


def _words(one: Any, model: type[BaseModel]) -> str:
    if one["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields)
        return f"there is no such name; there are {known}" if known else "takes none"
    if one["type"] == "missing":
        return "is missing: add it"
    said = str(one["msg"]).removeprefix("Value error, ")
    return said[:1].lower() + said[1:]
