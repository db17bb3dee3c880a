"""Where webhooks may go: public addresses only, unless a host of one's own network is named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.webhook_receiver import SECRET
from workers.endpoints import Endpoint, key_of, new_secret, signed
from workers.webhooks.addresses import CheckedResolver, UnfitAddressError, why_unfit

NEVER = """
0.0.0.0 0.1.2.3 169.254.0.1 169.254.169.254 100.100.100.200 168.63.129.16 192.0.0.8 192.0.2.1
192.88.99.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 233.252.0.1 239.255.255.250 240.0.0.1
255.255.255.255 :: fe80::1 fe80::1%eth0 fec0::1 ff02::1 2001::1 2001:db8::1 2002:7f00:1:: 100::1
fd00:ec2::254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::1 3fff::1 5f00::1 ::7f00:1
::ffff:0.0.0.0 ::ffff:0:127.0.0.1 localhost 127.1 0x7f000001 2130706433
"""
OWN = """
10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 127.0.0.1 127.9.9.9 ::1
fc00::1 fdff::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1
"""
PUBLIC = """
8.8.8.8 1.1.1.1 172.32.0.1 172.15.255.255 192.167.255.255 11.0.0.1 100.63.255.255 100.128.0.1
2606:4700::1111 2400:3200::1 ::ffff:8.8.8.8 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", NEVER.split())
def test_these_are_connected_to_by_nobody(address: str) -> None:
    assert why_unfit(address)
    assert why_unfit(address, private=True)


@pytest.mark.parametrize("address", OWN.split())
def test_ones_own_network_only_where_its_host_is_named(address: str) -> None:
    assert why_unfit(address)
    assert why_unfit(address, private=True) == ""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_are_connected_to(address: str) -> None:
    assert why_unfit(address) == ""


@pytest.mark.parametrize("private", [False, True])
async def test_one_unfit_address_of_a_name_is_one_too_many(private: bool) -> None:
    async def lookup(host: str) -> list[str]:
        return ["8.8.8.8", "169.254.169.254", "1.1.1.1"]

    resolver = CheckedResolver(private=private, lookup=lookup)
    with pytest.raises(UnfitAddressError, match=r"leads to 169\.254\.169\.254, which hands out"):
        await resolver.resolve("erp.example.com", 443)
    await resolver.close()


async def test_a_name_that_the_machine_itself_gives_is_checked_too() -> None:
    resolver = CheckedResolver(private=False)
    for name in ("localhost", "127.1", "2130706433", "0x7f000001"):
        with pytest.raises(UnfitAddressError):
            await resolver.resolve(name, 443)
    await resolver.close()


@pytest.mark.parametrize(
    ("url", "private_host", "why"),
    [
        ("http://erp.example.com/", "", "isn't encrypted"),
        ("https://user@erp.example.com/", "", "carries a password"),
        ("https://user:pass@erp.example.com/", "", "carries a password"),
        ("ftp://erp.example.com/", "", "isn't a web address"),
        ("https:///told", "", "isn't a web address"),
        ("https://erp.example.com:99999/", "", "isn't a web address"),
        ("https://erp.example.com/#part", "", "isn't a web address"),
        ("https://erp.example.com:25/", "", "another kind of server"),
        ("https://erp.example.com:22/", "erp.example.com", "another kind of server"),
        ("https://10.0.0.1/", "", "is a bare address"),
        ("https://8.8.8.8/", "", "is a bare address"),
        ("https://127.1/", "", "is a bare address"),
        ("https://0x7f.1/", "", "is a bare address"),
        ("https://0177.0.0.1/", "", "is a bare address"),
        ("https://2130706433/", "", "is a bare address"),
        ("https://[::1]/", "", "is a bare address"),
        ("https://[::ffff:10.0.0.1]/", "", "is a bare address"),
        ("https://erp.example.com/", "other.example.com", "isn't the host of url"),
        ("https://erp.example.com.evil.example/", "erp.example.com", "isn't the host of url"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_on_start(
    url: str, private_host: str, why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Endpoint.model_validate({"url": url, "secret": SECRET, "private_host": private_host})


@pytest.mark.parametrize(
    "more",
    [
        {"url": "https://erp.example.com/told"},
        {"url": "https://erp.example.com:8443/told?who=duewatch"},
        {"url": "http://erp.lan:8080/told", "private_host": "erp.lan"},
        {"url": "https://10.1.2.3/told", "private_host": "10.1.2.3"},
        {"url": "https://ERP.example.com/", "private_host": "ERP.example.com"},
    ],
)
def test_an_address_that_can_be_meant_is_taken(more: dict[str, Any]) -> None:
    assert Endpoint.model_validate({"secret": SECRET, **more}).url == more["url"]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "plain", "whsec_!!!", "x" * 44])
def test_a_secret_that_is_too_short_or_not_one_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="webhooks secret makes one"):
        Endpoint.model_validate({"url": "https://erp.example.com/", "secret": secret})


def test_a_new_secret_is_taken_and_never_the_same() -> None:
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()


def test_a_message_is_signed_as_the_published_example_of_standard_webhooks() -> None:
    import base64
    from datetime import UTC, datetime

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    uid = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    headers = signed(uid, at, b'{"test": 2432232314}', [key, b"another key of 24 bytes.."])
    first, second = headers["webhook-signature"].split(" ")

    assert first == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert second.startswith("v1,")
    assert second != first
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (uid, "1614265330")
