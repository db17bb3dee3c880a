"""The vendor's BSS API: a partner's customers, coupons and quotas.

API:      support.huaweicloud.com/api-bpconsole: mc_00021 (ListSubCustomers), mp_02005
          (ListIssuedPartnerCoupons), zh-cn_topic_0091566753 (ListQuotaCoupons); AK/SK of a partner
Reads:    customers -> customer, and invitation: one whose customer is associated is ACCEPTED;
          coupons -> voucher and cash_coupon; quotas -> coupon_quota. Whole lists each time
Accepted: an invitation is a customer's by its id, mobile, mail, or an enterprise's verified name,
          when it was associated since the invitation was sent and as what it was invited
Gone:     coupons and quotas; those that ended more than `keep_days` ago aren't asked for. A list
          that changed while it was read isn't taken for whole
Limits:   10 requests a second, 100 items each; the API has only coupons of customers by resale, and
          neither invitations nor statements, payments or invoice lists
Errors:   with HTTP 200 too; wrong keys and requests aren't tried again, all else is
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator

from schedules.fields import OptionalMail, OptionalMobile, Ref, is_masked, read_instant
from schedules.rule import Rule
from workers.errors import InputError
from workers.sources import Gone, Part, Reading, Source, SourceSettings
from workers.sources._bss import Access, Bss, Listing, Question
from workers.sources._cells import Place
from workers.sources._rows import Row, Shape, shapes

Bring = Literal["customers", "invitations", "coupons", "quotas"]
COUPONS = {"voucher": 1, "cash_coupon": 4}
"""Kinds by the vendor's coupon_type."""
QUOTA_TYPES = (0, 1)
YUAN = 1
ENTERPRISE = 1
_MAIL: TypeAdapter[Any] = TypeAdapter(OptionalMail)
_MOBILE: TypeAdapter[Any] = TypeAdapter(OptionalMobile)


class HuaweiBssSettings(SourceSettings):
    """A partner's account at the vendor."""

    endpoint: str = Field(
        "https://bss.myhuaweicloud.com", description="Address of the BSS API; https."
    )
    access_key: str = Field(min_length=1, max_length=128, description="Access key (AK).")
    secret_key: SecretStr = Field(min_length=1, description="Secret key (SK).")
    partner: Ref = Field(description="The ref of the partner whose account it is.")
    resellers: tuple[Ref, ...] = Field(
        (), description="Ids of resellers (云经销商) whose lists are read too; refs of partners."
    )
    brings: tuple[Bring, ...] = Field(
        ("customers", "invitations", "coupons", "quotas"),
        min_length=1,
        description="What is taken from it.",
    )
    gone: Gone = Field(
        "close", description="What a coupon or quota is that is no longer listed; as elsewhere."
    )
    keep_days: int = Field(
        30, ge=1, le=700, description="Days after its end that a coupon or quota is asked for."
    )
    per_second: int = Field(8, ge=1, le=10, description="Most requests a second.")
    timeout_s: float = Field(30.0, gt=0, le=300, description="Seconds for one answer.")

    @field_validator("endpoint")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "http" and _is_here(parts.hostname or ""):
            return value.rstrip("/")
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query:
            raise ValueError("must be like https://bss.myhuaweicloud.com: keys go over it")
        return value.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Customer:
    id: str
    partner: str
    name: str
    enterprise: bool
    association: str
    since: datetime
    mail: str | None
    mobile: str | None


@dataclass(slots=True)
class _Course:
    """One reading: the customers come first, since coupons name them by id alone."""

    reading: Reading
    customers: dict[str, _Customer] = field(default_factory=dict)
    listed: bool = False


def _utc_now() -> datetime:
    return datetime.now(UTC)


class HuaweiBss(Source):
    """Asks the vendor's API for what it can tell of a partner's business."""

    kind_of_source: ClassVar[str] = "huawei_bss"
    Settings: ClassVar[type[SourceSettings]] = HuaweiBssSettings

    settings: HuaweiBssSettings

    def __init__(
        self,
        name: str,
        settings: SourceSettings,
        rules: Mapping[str, Rule],
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`clock` gives the signatures' time."""
        super().__init__(name, settings, rules)
        mine = self.settings
        self._shapes = {shape.name: shape for shape in shapes(rules)}
        self._clock = clock
        self._access = Access(
            name,
            mine.endpoint,
            mine.access_key,
            mine.secret_key.get_secret_value(),
            mine.per_second,
            mine.timeout_s,
        )
        self._bss: Bss | None = None

    @property
    def place(self) -> str:
        """The address and the partner."""
        return f"{self.settings.endpoint} of {self.settings.partner}"

    async def close(self) -> None:
        """Closes the connections."""
        if self._bss is not None:
            await self._bss.close()
            self._bss = None

    async def parts(self, reading: Reading) -> AsyncGenerator[Part, None]:
        """Customers, invitations, vouchers, cash coupons and quotas, as far as they are wanted."""
        self._bss = Bss(self._access, self._clock)
        course = _Course(reading)
        wanted = set(self.settings.brings)
        if wanted - {"quotas"}:
            yield Part("customers", self._customers(course))
        if "invitations" in wanted and "invitation" in self._shapes:
            yield Part("invitations", self._invitations(course))
        if "coupons" in wanted:
            for kind in COUPONS:
                part = Part(kind)
                part.rows = self._coupons(course, kind, part)
                yield part
        if "quotas" in wanted:
            part = Part("coupon_quota")
            part.rows = self._quotas(course, part)
            yield part

    def _partners(self) -> list[tuple[str, dict[str, Any]]]:
        """Each partner's ref, and what asks for its list."""
        theirs = [(ref, {"indirect_partner_id": ref}) for ref in self.settings.resellers]
        return [(self.settings.partner, {}), *theirs]

    async def _every(
        self, question: Question, listing: Listing
    ) -> AsyncGenerator[dict[str, Any], None]:
        assert self._bss is not None
        async for item in self._bss.every(question, listing):
            yield item

    def _row(self, kind: str, number: int, values: Mapping[str, Any], fault: str = "") -> Row:
        shape: Shape = self._shapes[kind]
        place = Place(f"{self.name}: {kind}", None, number, "item")
        found = {name: value for name, value in values.items() if value is not None}
        return Row(place, shape, {} if fault else found, {}, fault)

    # --- customers and their invitations --------------------------------------------------

    async def _customers(self, course: _Course) -> AsyncGenerator[Row, None]:
        number = 0
        for partner, asked in self._partners():
            question = Question(
                "POST",
                "/v2/partners/sub-customers/query",
                "customer_infos",
                "count",
                "customer_id",
                asked,
            )
            async for item in self._every(question, Listing()):
                number += 1
                values = {
                    "ref": item["customer_id"],
                    "partner": partner,
                    "name": item.get("customer") or item.get("account_name"),
                    "association_type": item.get("association_type"),
                    "associated_on": item.get("associated_on"),
                }
                if (customer := _customer(partner, item)) is not None:
                    course.customers[customer.id] = customer
                if "customers" in self.settings.brings:
                    yield self._row("customer", number, values)
        course.listed = True

    async def _invitations(self, course: _Course) -> AsyncGenerator[Row, None]:
        self._need_customers(course)
        if course.reading.stored is None:
            return
        by_key: dict[tuple[str, str, str], list[_Customer]] = {}
        for customer in course.customers.values():
            for key in _keys_of(customer):
                by_key.setdefault((customer.partner, *key), []).append(customer)
        number = 0
        async for data in course.reading.stored("invitation"):
            number += 1
            if (found := _accepted_by(data, by_key)) is not None:
                known = data.get("updated_at")
                since = max(found.since, read_instant(known)) if known else found.since
                now = {"status": "ACCEPTED", "customer": found.id, "updated_at": since}
                yield self._row("invitation", number, {**data, **now})

    def _need_customers(self, course: _Course) -> None:
        if not course.listed:
            raise InputError(f"{self.name}: not asked, since the customers couldn't be read")

    # --- coupons and quotas ---------------------------------------------------------------

    def _since(self, course: _Course) -> str:
        since = course.reading.now - timedelta(days=self.settings.keep_days)
        return f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

    async def _coupons(self, course: _Course, kind: str, part: Part) -> AsyncGenerator[Row, None]:
        self._need_customers(course)
        names = await self._names(course, kind)
        number, whole = 0, True
        for partner, asked in self._partners():
            only = {"coupon_type": COUPONS[kind], "expire_time_begin": self._since(course)}
            question = Question(
                "GET",
                "/v2/promotions/benefits/partner-coupons",
                "user_coupons",
                "total_count",
                "coupon_id",
                {**only, **asked},
            )
            listing = Listing()
            async for item in self._every(question, listing):
                number += 1
                customer = course.customers.get(str(item.get("customer_id")))
                yield self._coupon(kind, number, partner, item, customer, names)
            whole = whole and listing.whole
        if whole:
            part.whole.add(kind)

    async def _names(self, course: _Course, kind: str) -> dict[str, str]:
        """What the customers of stored coupons are called: one who left is listed no more."""
        if course.reading.stored is None:
            return {}
        return {
            str(data["customer"]): str(data["customer_name"])
            async for data in course.reading.stored(kind)
            if data.get("customer")
        }

    def _coupon(
        self,
        kind: str,
        number: int,
        partner: str,
        item: Mapping[str, Any],
        customer: _Customer | None,
        names: Mapping[str, str],
    ) -> Row:
        theirs = str(item.get("customer_id") or "")
        frozen = str(item.get("is_frozen") or "0") == "1" and str(item.get("status")) == "2"
        values = {
            "ref": item["coupon_id"],
            "partner": partner,
            "customer": theirs or None,
            "customer_name": customer.name if customer else names.get(theirs, theirs),
            "customer_mail": customer.mail if customer else None,
            "customer_mobile": customer.mobile if customer else None,
            "face_value": item.get("face_value"),
            "balance": item.get("balance"),
            "currency": "CNY",
            "issued_at": item.get("effective_time"),
            "expires_at": item.get("expire_time"),
            # What is frozen can't be used just now, and may be again.
            "status": "INACTIVE" if frozen else item.get("status"),
        }
        return self._row(kind, number, values, _unit_fault(item))

    async def _quotas(self, course: _Course, part: Part) -> AsyncGenerator[Row, None]:
        number, whole = 0, True
        for partner, asked in self._partners():
            for quota_type in QUOTA_TYPES:
                only = {"quota_type": quota_type, "expire_time_begin": self._since(course)}
                question = Question(
                    "POST",
                    "/v2/partners/coupon-quotas/query",
                    "quotas",
                    "total_count",
                    "quota_id",
                    {**only, **asked},
                )
                listing = Listing()
                async for item in self._every(question, listing):
                    number += 1
                    yield self._quota(number, partner, item)
                whole = whole and listing.whole
        if whole:
            part.whole.add("coupon_quota")

    def _quota(self, number: int, partner: str, item: Mapping[str, Any]) -> Row:
        values = {
            "ref": item["quota_id"],
            "partner": partner,
            "quota_type": item.get("quota_type"),
            "face_value": item.get("quota_value"),
            "balance": item.get("balance"),
            "currency": item.get("currency") or "CNY",
            "issued_at": item.get("effective_time"),
            "expires_at": item.get("expire_time"),
            "status": item.get("quota_status"),
        }
        return self._row("coupon_quota", number, values, _unit_fault(item))


def _unit_fault(item: Mapping[str, Any]) -> str:
    unit = item.get("measure_id")
    if unit in {None, YUAN}:
        return ""
    return f"has its amounts in the vendor's unit {unit}, which isn't yuan: report it"


def _customer(partner: str, item: Mapping[str, Any]) -> _Customer | None:
    """A customer as invitations and coupons need it; None where it isn't known since when."""
    try:
        since = read_instant(item.get("associated_on"))
    except ValueError:
        return None
    number, country = str(item.get("telephone") or ""), str(item.get("country_code") or "")
    if number and country.isdecimal() and not number.startswith("+") and not is_masked(number):
        number = f"+{int(country)}{number}"
    return _Customer(
        id=str(item["customer_id"]),
        partner=partner,
        name=str(item.get("customer") or item.get("account_name") or item["customer_id"]),
        enterprise=item.get("customer_type") == ENTERPRISE,
        association={"1": "REFERRAL", "2": "RESALE"}.get(str(item.get("association_type")), ""),
        since=since,
        mail=_readable(_MAIL, item.get("email")),
        mobile=_readable(_MOBILE, number),
    )


def _readable(form: TypeAdapter[Any], value: Any) -> str | None:
    """An address that can be written to, or None: what is masked or wrong costs no coupon."""
    try:
        found: str | None = form.validate_python(value or None)
    except ValidationError:
        return None
    return None if found is None or is_masked(found) else found


def _keys_of(customer: _Customer) -> list[tuple[str, str]]:
    keys = [("id", customer.id)]
    if customer.mobile:
        keys.append(("mobile", customer.mobile))
    if customer.mail:
        keys.append(("mail", customer.mail.casefold()))
    if customer.enterprise:  # two people may have one name
        keys.append(("name", customer.name.strip().casefold()))
    return keys


def _accepted_by(
    data: Mapping[str, Any], by_key: Mapping[tuple[str, str, str], list[_Customer]]
) -> _Customer | None:
    """The customer whom an invitation has brought, or None."""
    if data.get("status") in {"ACCEPTED", "REVOKED"}:
        return None
    sent_at = read_instant(data["sent_at"])
    keys = (
        ("id", data.get("customer")),
        ("mobile", data.get("customer_mobile")),
        ("mail", (data.get("customer_mail") or "").casefold()),
        ("name", (data.get("customer_name") or "").strip().casefold()),
    )
    invited_as = data.get("association_type")
    for name, value in keys:
        for customer in by_key.get((str(data["partner"]), name, str(value)), ()) if value else ():
            as_invited = (
                not invited_as or not customer.association or (invited_as == customer.association)
            )
            if customer.since >= sent_at and as_invited:
                return customer
    return None
