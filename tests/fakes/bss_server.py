"""The vendor's BSS API on a real socket: checks the signature, then plays back what it holds.

The answers have the documented form; the signature is compared with the vendor's own signer's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self

from aiohttp import web
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

CUSTOMERS = "/v2/partners/sub-customers/query"
COUPONS = "/v2/promotions/benefits/partner-coupons"
QUOTAS = "/v2/partners/coupon-quotas/query"


def signed_by_vendor(
    method: str,
    host: str,
    path: str,
    query: list[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
    keys: tuple[str, str],
) -> str:
    """The Authorization of a request by the vendor's own signer."""
    request = SdkRequest(
        method=method,
        schema="https",
        host=host,
        resource_path=path,
        query_params=query,
        header_params=dict(headers),
        body=body,
    )
    Signer(BasicCredentials(*keys)).sign(request)
    return str(request.header_params["Authorization"])


def customer(number: int, **more: Any) -> dict[str, Any]:
    """A sub-customer as the API gives one."""
    return {
        "customer": f"示例{number}有限公司",
        "account_name": f"account{number}",
        "customer_id": f"c{number:04}",
        "associated_on": "2026-11-20T08:05:01Z",
        "association_type": "2",
        "label": "",
        "telephone": f"138001{number:05}",
        "verified_status": "2",
        "country_code": "0086",
        "customer_type": 1,
        "is_frozen": 0,
        "account_managers": [{"account_name": "manager"}],
        "xaccount_id": "",
        "xaccount_type": "",
        "customer_level": "V1",
        "email": f"it{number}@customer.example",
        **more,
    }


def coupon(ref: str, **more: Any) -> dict[str, Any]:
    """An issued coupon as the API gives one."""
    return {
        "coupon_id": ref,
        "status": 2,
        "customer_id": "c0001",
        "coupon_type": 1,
        "measure_id": 1,
        "face_value": 5000.10,
        "effective_time": "2026-10-01T00:00:00Z",
        "expire_time": "2026-12-01T15:59:59Z",
        "media_type": 1,
        "fetch_method": 3,
        "use_limits": [{"use_limit_type": "CLOUD_SERVICE", "use_limit_value": "ecs"}],
        "create_time": "2026-10-01T00:00:00Z",
        "balance": 1860.5,
        "is_frozen": "0",
        **more,
    }


def quota(ref: str, **more: Any) -> dict[str, Any]:
    """A quota as the API gives one."""
    return {
        "quota_id": ref,
        "quota_type": 0,
        "create_time": "2026-01-01T00:00:00Z",
        "last_update_time": "2026-11-01T00:00:00Z",
        "quota_value": 200000.0,
        "quota_status": 0,
        "balance": 42500.55,
        "measure_id": 1,
        "currency": "CNY",
        "effective_time": "2026-01-01T00:00:00Z",
        "expire_time": "2026-12-31T15:59:59Z",
        "limit_infos": [],
        **more,
    }


@dataclass(slots=True)
class BssServer:
    """Listens on 127.0.0.1 while it is entered. `script` gives the next answers, (status, body,
    headers); after them it answers from what it holds. `times` are when requests came, in seconds.
    """

    customers: list[dict[str, Any]] = field(default_factory=list)
    coupons: list[dict[str, Any]] = field(default_factory=list)
    quotas: list[dict[str, Any]] = field(default_factory=list)
    script: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    keys: tuple[str, str] = ("AK-TEST", "SK-test-secret")
    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    moves: bool = False
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def settings(self, **more: Any) -> dict[str, Any]:
        """A source of this server."""
        access = {"access_key": "AK-TEST", "secret_key": "SK-test-secret"}
        table = {"type": "huawei_bss", "endpoint": self.url, "partner": "P1", **access, **more}
        return {"sources": {"bss": table}}

    async def _answer(self, request: web.Request) -> web.Response:
        self.times.append(monotonic())
        body = await request.read()
        given = request.headers.get("Authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        wanted = signed_by_vendor(
            request.method,
            request.host,
            request.path,
            list(request.query.items()),
            headers,
            body,
            self.keys,
        )
        if given != wanted:
            wrong = {"error_code": "APIGW.0301", "error_msg": "Incorrect IAM authentication"}
            return web.json_response(wrong, status=401)
        asked = dict(request.query) if request.method == "GET" else json.loads(body)
        self.asked.append((request.path, asked))
        if self.script:
            status, content, more = self.script.pop(0)
            text = content if isinstance(content, str) else json.dumps(content)
            return web.Response(status=status, text=text, headers=more)
        return self._page(request.method, request.path, asked)

    def _page(self, method: str, path: str, asked: dict[str, Any]) -> web.Response:
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", 10))
        assert limit <= 100
        found: list[dict[str, Any]]
        if (method, path) == ("POST", CUSTOMERS):
            found, items, total = self.customers, "customer_infos", "count"
        elif (method, path) == ("GET", COUPONS):
            kind = int(asked["coupon_type"])
            found = [one for one in self.coupons if one["coupon_type"] == kind]
            items, total = "user_coupons", "total_count"
        elif (method, path) == ("POST", QUOTAS):
            kind = asked.get("quota_type", 0)
            found = [one for one in self.quotas if one["quota_type"] == kind]
            items, total = "quotas", "total_count"
        else:
            return web.json_response({"error_code": "CBC.0100", "error_msg": "path"}, status=404)
        since = asked.get("expire_time_begin", "")
        found = [one for one in found if one.get("expire_time", "~") > since]
        if "indirect_partner_id" in asked:
            found = [one for one in found if one.get("_of") == asked["indirect_partner_id"]]
        else:
            found = [one for one in found if "_of" not in one]
        count = len(found)
        if self.moves and offset:
            found = found[1:]  # one was removed since the page before
        return web.json_response({items: found[offset : offset + limit], total: count})
