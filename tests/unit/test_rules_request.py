"""What producers ask for: one message, in the words that they name, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, plan
from schedules.rule import Contact, Partner, Record, State, data_of
from schedules.rules.request import Request, RequestData
from tests.unit.planning import CALENDAR, HOUR, NIGHT, beijing, person

RULE = Request()
AT = beijing(24, 10)
WORDS = {"title": "Maintenance", "text": "On Saturday."}
PEOPLE = [
    person("A", "administrator"),
    person("B", "administrator", mail="b@example.com", mobile="+8613800138111"),
    person("F", "finance"),
]


def asked(**fields: Any) -> Record:
    given = {"ref": "R1", "partner": "P1", "values": WORDS, "requested_at": AT, **fields}
    return RULE.record(RequestData.model_validate(given), Partner("P1", "Partner"), CALENDAR)


def told(record: Record, now: Any = AT, people: list[Contact] = PEOPLE) -> set[tuple[str, ...]]:
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
    due = plan(record, people, {}, now, around).due
    return {(one.contact.ref, one.channel, one.message) for one in due if one.contact}


def test_the_role_or_the_named_contact_is_told_by_the_channels_asked_for() -> None:
    assert told(asked()) == {("A", "mail", "announcement"), ("B", "mail", "announcement")}
    assert told(asked(contact="F", channels="mail sms")) == {
        ("F", "mail", "announcement"),
        ("F", "sms", "announcement"),
    }
    assert told(asked(role="财务")) == {("F", "mail", "announcement")}


def test_words_of_ones_own_are_told_by_their_name() -> None:
    record = asked(contact="A", template="price_list", values={"month": "11"})

    assert told(record) == {("A", "mail", "price_list")}
    assert RULE.chosen_words(data_of(record, RequestData)) == "price_list"
    assert RULE.view(record)["values"] == {"button": "", "month": "11"}


def test_it_waits_for_its_time_and_is_void_after_its_end() -> None:
    record = asked(send_at=AT + 2 * HOUR, expires_at=AT + 5 * HOUR)

    assert told(record, AT + HOUR) == set()
    assert len(told(record, AT + 2 * HOUR)) == 2
    assert told(record, AT + 5 * HOUR) == set()


def test_urgent_or_not_it_is_one_message() -> None:
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
    for urgent in (True, False):
        due = plan(asked(contact="A", urgent=urgent), PEOPLE, {}, AT, around).due
        assert [one.urgent for one in due] == [urgent]


def test_told_it_is_over_and_withdrawn_it_is_closed() -> None:
    assert asked().assessment.last_word
    assert asked(status="已撤回").assessment.state is State.CLOSED


def test_an_announcement_without_its_words_is_held_with_the_remedy() -> None:
    held = asked(values={"title": "Maintenance"}).assessment

    assert held.state is State.HELD
    assert held.why == "values lacks text: send them, or name other words"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"template": "../secret"}, "isn't the name of a message's words"),
        ({"values": "{no json"}, "isn't a JSON object"),
        ({"values": ["title"]}, "must be an object"),
        ({"values": {f"v{n}": "" for n in range(21)}}, "at most 20 names"),
        ({"values": {"__class__": "x"}}, "isn't a-z, 0-9 and _"),
        ({"values": {"title": "a\r\nBcc: x@example.com"}}, "title contains the control character"),
        ({"values": {"title": {"deep": 1}}}, "title must be text"),
        ({"values": {"title": "x" * 1001}}, "title is 1001 characters long"),
    ],
)
def test_what_could_do_harm_or_cant_be_read_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        asked(**fields)


def test_a_cell_of_a_file_holds_the_values_as_json() -> None:
    data = asked(values='{"title": "维护", "text": "周六", "count": 3}').data

    assert isinstance(data, RequestData)
    assert data.values == {"title": "维护", "text": "周六", "count": "3"}


def test_it_is_as_late_as_a_minute_at_most() -> None:
    assert RULE.cadence.scan_every == timedelta(minutes=1)
