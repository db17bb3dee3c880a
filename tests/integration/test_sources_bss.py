"""The vendor's BSS API, played back by a server: coupons open, customers close invitations."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import pytest

from tests.fakes.bss_server import (
    COUPONS,
    CUSTOMERS,
    QUOTAS,
    BssServer,
    coupon,
    customer,
    quota,
    signed_by_vendor,
)
from tests.fakes.clock import FakeClock
from tests.product import NOW, RULES, invitation, opened, partner
from workers.app import App
from workers.errors import SettingsError
from workers.sources import build_sources
from workers.syncing import Synced, Syncing
from workers.vendor_signature import sign

SENT = NOW - timedelta(days=6)


async def synced(app: App, **how: Any) -> Synced:
    done = await Syncing(app).run("bss", **how)
    assert done is not None
    return done


async def state(app: App, ref: str) -> str:
    (row,) = await app.store.records.find(ref)
    return str(row.state)


def test_a_signed_query_equals_the_vendor_s_own_signer() -> None:
    query = [("limit", "100"), ("expire_time_begin", "2026-11-24T01:00:00Z"), ("b", "ä é~-_.*")]
    text = "expire_time_begin=2026-11-24T01%3A00%3A00Z&b=%C3%A4+%C3%A9~-_.%2A&limit=100"
    ours = sign("GET", f"https://h.example/v2/x?{text}", {"A": "b"}, b"", "AK", "SK", NOW)
    dated = {name: value for name, value in ours.items() if name != "Authorization"}

    theirs = signed_by_vendor("GET", "h.example", "/v2/x", query, dated, b"", ("AK", "SK"))
    assert ours["Authorization"] == theirs


async def test_coupons_and_quotas_open_with_their_customer_and_exact_amounts(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(
        customers=[customer(1)],
        coupons=[coupon("V1"), coupon("X1", coupon_type=4, balance=0.10)],
        quotas=[quota("Q1"), quota("Q2", quota_type=1, quota_status=5)],
    )
    async with server, opened(database_url, clock, **server.settings()) as app:
        done = await synced(app)

        assert (done.outcome, done.detail) == ("done", "")
        assert done.counts == {
            "cash_coupon": {"new": 1},
            "coupon_quota": {"new": 2},
            "customer": {"new": 1},
            "voucher": {"new": 1},
        }
        record = (await app.records.one("V1", "voucher")).record.data.model_dump()
        assert record["face_value"] == Decimal("5000.10")
        assert record["balance"] == Decimal("1860.50")
        assert record["customer_name"] == "示例1有限公司"
        assert record["customer_mobile"] == "+8613800100001"
        assert record["expires_at"].isoformat() == "2026-12-01T15:59:59+00:00"
        assert (await app.records.one("X1")).record.data.model_dump()["balance"] == Decimal("0.10")
        assert [await state(app, ref) for ref in ("V1", "X1", "Q1", "Q2")] == [
            "open",
            "open",
            "open",
            "paused",
        ]
        assert (await synced(app)).counts["voucher"] == {"unchanged": 1}


@pytest.mark.parametrize(
    ("how", "accepted"),
    [
        ({"customer_mobile": "13800100001"}, True),
        ({"customer_mail": "IT1@customer.example"}, True),
        ({"customer": "c0001"}, True),
        ({"customer_name": "示例1有限公司"}, True),
        ({"customer_mobile": "13800100009"}, False),
        ({"customer_mobile": "138****0001"}, False),
        ({"customer_mobile": "13800100001", "partner": "P2"}, False),
        ({"customer_mobile": "13800100001", "association_type": "REFERRAL"}, False),
        # Associated before it was invited: it was another invitation.
        ({"customer_mobile": "13800100001", "sent_at": NOW - timedelta(days=1)}, False),
    ],
)
async def test_a_registered_customer_accepts_its_invitation_and_no_other(
    how: dict[str, Any], accepted: bool, clock: FakeClock, tmp_path: Any
) -> None:
    server = BssServer(customers=[customer(1), customer(2, customer_type=0)])
    url = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with server, opened(url, clock, **server.settings()) as app:
        data = {"customer_mail": None, "sent_at": SENT, **how}
        await app.intake.take([partner(), partner("P2"), invitation("I1", **data)])
        done = await synced(app)

        assert await state(app, "I1") == ("closed" if accepted else "open")
        assert done.counts.get("invitation") == ({"closed": 1} if accepted else None)
        if accepted:
            model = (await app.records.one("I1")).record.data.model_dump()
            assert (model["customer"], str(model["status"])) == ("c0001", "ACCEPTED")


async def test_two_people_of_one_name_are_not_taken_for_each_other(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1, customer="王芳", customer_type=0)])
    async with server, opened(database_url, clock, **server.settings()) as app:
        await app.intake.take([partner(), invitation("I1", customer_name="王芳", sent_at=SENT)])
        await synced(app)

        assert await state(app, "I1") == "open"


async def test_a_trial_says_what_would_close_and_changes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1)], coupons=[coupon("V1")])
    async with server, opened(database_url, clock, **server.settings()) as app:
        data = {"customer_mobile": "13800100001", "sent_at": SENT}
        await app.intake.take([partner(), invitation("I1", **data)])
        done = await Syncing(app).trial("bss")

        assert done.counts["invitation"] == {"closed": 1}
        assert done.counts["voucher"] == {"new": 1}
        assert await state(app, "I1") == "open"
        assert await app.store.records.find("V1") == []
        assert await app.store.sources.runs("bss", 5) == []


async def test_every_page_is_read_at_the_allowed_pace(database_url: str, clock: FakeClock) -> None:
    server = BssServer(customers=[customer(number) for number in range(1, 1251)])
    quick = {"brings": ["customers"], "per_second": 10}
    async with server, opened(database_url, clock, **server.settings(**quick)) as app:
        done = await synced(app)

        assert done.counts == {"customer": {"new": 1250}}
        assert [asked["offset"] for _, asked in server.asked] == list(range(0, 1250, 100))
        times = server.times
        within = [sum(1 for t in times if at <= t < at + 0.98) for at in times]
        assert max(within) <= 10


async def test_a_used_coupon_closes_and_one_that_is_gone_too(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1)], coupons=[coupon("V1"), coupon("V2"), coupon("V3")])
    async with server, opened(database_url, clock, **server.settings()) as app:
        await synced(app)
        server.coupons = [coupon("V1", status=3, balance=0), coupon("V3", is_frozen="1")]
        done = await synced(app)

        assert done.counts["voucher"] == {"closed": 1, "changed": 1, "gone": 1}
        assert done.gone == {"voucher": ["V2"]}
        assert [await state(app, ref) for ref in ("V1", "V2", "V3")] == [
            "closed",
            "closed",
            "waiting",
        ]
        assert "source bss" in (await app.store.records.find("V2"))[0].why


async def test_a_list_that_moved_while_it_was_read_closes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    many = [coupon(f"V{number:03}") for number in range(150)]
    server = BssServer(customers=[customer(1)], coupons=many)
    async with server, opened(database_url, clock, **server.settings(per_second=10)) as app:
        await synced(app)
        server.moves = True
        done = await synced(app)

        # One of them slipped through between two pages.
        assert done.counts["voucher"] == {"unchanged": 149}
        assert done.gone == {}


async def test_most_of_a_list_gone_at_once_is_taken_for_a_fault(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1)], coupons=[coupon(f"V{n}") for n in range(20)])
    async with server, opened(database_url, clock, **server.settings()) as app:
        await synced(app)
        server.coupons = []
        done = await synced(app)

        assert (done.outcome, done.gone) == ("refused", {})
        assert "20 of 20 known records are gone at once" in done.faults[0]
        assert await state(app, "V7") == "open"


async def test_resellers_lists_are_read_for_them(database_url: str, clock: FakeClock) -> None:
    server = BssServer(
        customers=[customer(1), customer(2, _of="R7")],
        coupons=[coupon("V2", customer_id="c0002", _of="R7")],
        quotas=[quota("Q7", _of="R7")],
    )
    async with server, opened(database_url, clock, **server.settings(resellers=["R7"])) as app:
        await synced(app)

        found = {ref: (await app.store.records.find(ref))[0].partner for ref in ("V2", "Q7")}
        assert found == {"V2": "R7", "Q7": "R7"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"error_code": "CBC.5001", "error_msg": "非合作伙伴"}, {}), "aren't a partner's"),
        ((403, {"error_code": "CBC.0151", "error_msg": "Access denied"}, {}), "may not ask this"),
        ((400, {"error_code": "CBC.0100", "error_msg": "参数错误"}, {}), "check the source's"),
        ((401, "no JSON", {}), "check access_key"),
    ],
)
async def test_what_is_wrong_with_the_request_is_said_once_and_harms_no_other_list(
    answer: Any, said: str, database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1)], coupons=[coupon("V1")], quotas=[quota("Q1")])
    server.script = [answer]
    async with server, opened(database_url, clock, **server.settings()) as app:
        done = await synced(app)

        assert done.outcome == "refused"
        assert said in done.parts[0].fault
        assert [path for path, _ in server.asked] == [CUSTOMERS, QUOTAS, QUOTAS]
        # Without the customers a coupon would lose its customer's name.
        assert done.counts == {"coupon_quota": {"new": 1}}


@pytest.mark.parametrize(
    "answer",
    [
        (429, {"error_code": "APIGW.0308", "error_msg": "throttling"}, {"Retry-After": "0"}),
        (500, {"error_code": "CBC.0999", "error_msg": "Other errors"}, {}),
        (200, {"error_code": "CBC.0999", "error_msg": "Other errors"}, {}),
        (200, "<html>", {}),
        (502, "", {}),
    ],
)
async def test_what_the_vendor_failed_at_is_asked_again(
    answer: Any, database_url: str, clock: FakeClock
) -> None:
    server = BssServer(quotas=[quota("Q1")], script=[answer])
    async with server, opened(database_url, clock, **server.settings(brings=["quotas"])) as app:
        done = await synced(app)

        assert (done.outcome, done.counts) == ("done", {"coupon_quota": {"new": 1}})
        assert len(server.asked) == 3


async def test_a_vendor_that_stays_away_fails_the_sync_and_closes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    server = BssServer(customers=[customer(1)], coupons=[coupon("V1")])
    async with server, opened(database_url, clock, **server.settings()) as app:
        await synced(app)
        busy = {"error_code": "CBC.0999", "error_msg": "call 13800138000 or a@b.example"}
        server.script = [(503, busy, {})] * 4
        done = await synced(app)

        assert (done.outcome, done.gone) == ("failed", {})
        assert "the vendor's system failed (HTTP 503 CBC.0999 call … or …)" in done.faults[0]
        assert await state(app, "V1") == "open"


async def test_an_amount_in_another_unit_is_refused_and_its_neighbours_are_taken(
    database_url: str, clock: FakeClock
) -> None:
    coupons = [coupon("V1"), coupon("V2", measure_id=3), coupon("V3", balance=1.234)]
    server = BssServer(customers=[customer(1)], coupons=coupons)
    async with server, opened(database_url, clock, **server.settings()) as app:
        done = await synced(app)

        assert done.counts["voucher"] == {"new": 1, "refused": 2}
        said = [str(problem) for part in done.parts for problem in part.problems]
        assert said[0].startswith("bss: voucher, item 2: the row has its amounts in the vendor's")
        assert "item 3, column balance (余额): '1.234' has more than 2 digits" in said[1]


def test_keys_never_go_over_an_open_wire_and_are_never_shown() -> None:
    table = {"type": "huawei_bss", "access_key": "AK", "secret_key": "hushhush", "partner": "P1"}
    with pytest.raises(SettingsError, match=r"sources\.bss\.endpoint: must be like https"):
        build_sources({"bss": {**table, "endpoint": "http://bss.example"}}, RULES)
    with pytest.raises(SettingsError) as refused:
        build_sources({"bss": {**table, "secret_key": ["hushhush"]}}, RULES)
    assert "hushhush" not in str(refused.value)
    (source,) = build_sources({"bss": table}, RULES).values()
    assert "hushhush" not in f"{source.place} {source.settings!r}"


def test_the_requests_and_answers_are_what_the_vendor_s_sdk_knows() -> None:
    if find_spec("huaweicloudsdkbss") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("huaweicloudsdkbss isn't installed")
        pytest.skip("huaweicloudsdkbss isn't installed")
    models: Any = importlib.import_module("huaweicloudsdkbss.v2")
    client: Any = importlib.import_module("huaweicloudsdkbss.v2.bss_client").BssClient
    asked = {"expire_time_begin", "indirect_partner_id", "offset", "limit"}
    rows = (
        (
            client._list_sub_customers_http_info(models.ListSubCustomersRequest()),
            ("POST", CUSTOMERS),
            (models.QuerySubCustomerListReq, {"indirect_partner_id", "offset", "limit"}),
            (models.ListSubCustomersResponse, {"customer_infos", "count"}),
            (models.CustomerInformation, customer(1).keys()),
        ),
        (
            client._list_issued_partner_coupons_http_info(models.ListIssuedPartnerCouponsRequest()),
            ("GET", COUPONS),
            (models.ListIssuedPartnerCouponsRequest, asked | {"coupon_type"}),
            (models.ListIssuedPartnerCouponsResponse, {"user_coupons", "total_count"}),
            (models.IQueryUserPartnerCouponsResultV2, coupon("V").keys()),
        ),
        (
            client._list_quota_coupons_http_info(models.ListQuotaCouponsRequest()),
            ("POST", QUOTAS),
            (models.QueryCouponQuotasReqExt, asked | {"quota_type"}),
            (models.ListQuotaCouponsResponse, {"quotas", "total_count"}),
            (models.CouponQuotaV2, quota("Q").keys()),
        ),
    )
    for about, where, *known in rows:
        assert (about["method"], about["resource_path"]) == where
        for model, names in known:
            assert set(names) <= set(model.attribute_map.values()), model.__name__
    amounts = {"face_value", "balance"}
    found = models.IQueryUserPartnerCouponsResultV2.openapi_types
    assert {found[name] for name in amounts} == {"decimal.Decimal"}
