"""Every kind of problem an answer may have: its name never changes its meaning (RFC 9457, 3.1.1).

4xx: correct the request; sending it again as it is changes nothing, but where `again` is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PROBLEM: Final = "urn:duewatch:problem:"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind. `title` is what it says of itself; `remedy` what the caller does about it."""

    status: int
    title: str
    remedy: str
    again: bool = False


def _types() -> dict[str, ProblemType]:
    one = ProblemType
    return {
        # who asks
        "token": one(401, "The token is missing or wrong", "Send Authorization: Bearer <token>."),
        "token-in-query": one(
            400,
            "The token is in the address",
            "Addresses end up in logs: send it as Authorization: Bearer, and revoke it.",
        ),
        "scope": one(
            403,
            "The token isn't allowed to do that",
            "Use a token that has the scope which is named.",
        ),
        "only-from-here": one(
            403,
            "Without a token only this machine is answered",
            "Set web.api_token or make a token (duewatch tokens create), and send it.",
        ),
        "cross-site": one(
            403,
            "A page of another site can't send this",
            "Send a token: a browser adds none by itself.",
        ),
        # the request as such
        "not-found": one(404, "There is no such thing", "Look it up in the list of such things."),
        "method-not-allowed": one(
            405, "This address doesn't take that method", "Use one of those in Allow."
        ),
        "too-slow": one(408, "The body didn't come in time", "Send it at once.", again=True),
        "too-large": one(
            413, "The request is too large", "Send less at a time: the limit is in limit_bytes."
        ),
        "media-type": one(
            415, "The body isn't of a type that is taken here", "Send the Content-Type named."
        ),
        "content-encoding": one(
            415, "The body is compressed", "Send it as it is, without Content-Encoding."
        ),
        "expectation-failed": one(417, "The expectation can't be met", "Leave Expect out."),
        "bad-request": one(
            400, "The request can't be done as it stands", "Correct what detail names."
        ),
        "bad-body": one(400, "The body broke off or is malformed", "Send all of it.", again=True),
        "invalid-json": one(
            400, "The body can't be read", "Send JSON in UTF-8, each key once, no NaN."
        ),
        "invalid-parameter": one(
            400,
            "A parameter of the address is wrong",
            "Correct each parameter that errors names.",
        ),
        "invalid-body": one(
            422, "The body is wrong", "Correct each field that errors names by JSON pointer."
        ),
        "cursor": one(
            400,
            "The cursor isn't one of this list",
            "Take it from next of the page before, with the same filters.",
        ),
        # things in a state
        "state": one(409, "That isn't possible now", "Look at the thing's present state."),
        "held": one(
            409,
            "The record can't be read any more",
            "Send its data anew: the rule doesn't accept what is stored.",
        ),
        # the same request twice
        "idempotency-key": one(
            400,
            "The Idempotency-Key can't be used",
            "Send 1 to 255 printable characters, another for each thing to be done.",
        ),
        "idempotency-in-progress": one(
            409,
            "The same request is being worked on",
            "Send it again after Retry-After.",
            again=True,
        ),
        "idempotency-reused": one(
            422,
            "The Idempotency-Key was used for another request",
            "Give each request a key of its own; only the very same may repeat one.",
        ),
        # events and reports
        "invalid-event": one(422, "The event is wrong", "Correct the fields that errors names."),
        "event-conflict": one(
            409,
            "The event was sent before with other content",
            "Give what changed an id of its own.",
        ),
        "invalid-batch": one(
            422, "The batch isn't a list of events", "Send a JSON array of events."
        ),
        "partly-refused": one(
            422,
            "Some events of the batch were refused",
            "The others are taken: correct those named in results and send them again.",
        ),
        "invalid-report": one(400, "Not a status report", "See what the provider's file expects."),
        # not the caller's fault
        "too-many": one(
            429, "Too many requests at a time", "Wait as Retry-After says.", again=True
        ),
        "internal": one(
            500, "Something went wrong here", "The operator's log says what: ask them.", again=True
        ),
        "unavailable": one(
            503, "Something that is needed can't be used just now", "Send it again.", again=True
        ),
        "database-away": one(
            503,
            "The database can't be used just now",
            "Nothing is lost: send the same again after Retry-After.",
            again=True,
        ),
    }


PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = _types()
"""By name: `type` is PROBLEM and the name."""
