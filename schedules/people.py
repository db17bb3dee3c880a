"""Who: partners, their people, their customers, and what customers spend. Pure.

A role is a plain word in any language that is known here; a rule names the roles it tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from schedules.calendar import QuietHours
from schedules.fields import (
    Amount,
    Column,
    Currency,
    Flag,
    Instant,
    Language,
    Line,
    OptionalFlag,
    OptionalInstant,
    OptionalLine,
    OptionalMail,
    OptionalMobile,
    OptionalRef,
    Ref,
    Refs,
    Zone,
    choice,
    clean_text,
    is_blank,
    is_masked,
)

Channel = Literal["mail", "sms"]


class Data(BaseModel):
    """What every data model shares: strict about unknown fields, frozen, text cleaned."""

    # Validators are built when first used: most commands need few of the models.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class PartnerData(Data):
    """A partner. `parent` is the distributor (总经销商) of a reseller (云经销商)."""

    ref: Annotated[Ref, Column("伙伴ID", "合作伙伴ID", "伙伴编号", "partner", "partner_id")]
    name: Annotated[OptionalLine, Column("伙伴名称", "合作伙伴名称", "partner_name")] = None
    type: Annotated[OptionalLine, Column("伙伴类型", "partner_type")] = None
    parent: Annotated[OptionalRef, Column("上级伙伴ID", "总经销商ID", "parent_partner_id")] = None
    account_authenticated: Annotated[
        OptionalFlag, Column("商业信息认证", "settlement_account_authenticated")
    ] = None


class Role(StrEnum):
    """The roles that the rules tell; any other word is a role too, for rules of one's own."""

    ADMINISTRATOR = "administrator"
    SALES = "sales"
    SUPERVISOR = "supervisor"
    FINANCE = "finance"
    DELIVERY = "delivery"
    PROJECT = "project"
    PARTNER_MANAGER = "partner_manager"


_ROLES = {
    Role.ADMINISTRATOR: "管理员|伙伴管理员|administrator|admin",
    Role.SALES: "客户经理|销售|sales|account manager",
    Role.SUPERVISOR: "主管|客户经理主管|销售主管|supervisor",
    Role.FINANCE: "财务|财务联系人|finance",
    Role.DELIVERY: "交付|交付负责人|delivery",
    Role.PROJECT: "项目经理|项目|project",
    Role.PARTNER_MANAGER: "生态经理|partner manager",
}
_ROLE_WORDS = {word: role.value for role, words in _ROLES.items() for word in words.split("|")}


def role_of(value: Any) -> Any:
    """A role's usual Chinese or English word as its name; any other word as it stands."""
    if is_blank(value):
        return None
    word = clean_text(str(value), 200)
    return _ROLE_WORDS.get(word.casefold().replace("_", " "), word)


class Digest(StrEnum):
    """How reminders come to a person: each by itself, or once a day what isn't urgent."""

    EACH = "each"
    DAILY = "daily"


def _month(value: Any) -> Any:
    """`2026-10` from itself, 2026/10, 202610, 2026年10月 or a date. Raises ValueError."""
    if isinstance(value, date):
        return f"{value:%Y-%m}"
    found = re.fullmatch(r"(20\d\d)\D?(0?[1-9]|1[0-2])\D?", str(value).strip())
    if not found:
        raise ValueError("isn't a month: write it like 2026-10")
    return f"{found[1]}-{int(found[2]):02}"


def _quiet_hours(value: str | None) -> str | None:
    if value is None:
        return None
    quiet = QuietHours.parse(value)
    return "none" if quiet is None else f"{quiet.start:%H:%M}-{quiet.end:%H:%M}"


class ContactData(Data):
    """A person of a partner (or of the vendor, for that partner) with a role.

    Roles: administrator, sales, supervisor, finance, delivery, project, partner_manager.
    `quiet_hours` is `21:00-08:00` in the contact's own zone, `none`, or empty for the channel's
    default. `channels` are the wished ones: mail, sms. `digest` daily: one mail a day of all
    that isn't urgent, and SMS only for what is; what the person chose by link goes before it.
    """

    partner: Annotated[Ref, Column("伙伴ID", "合作伙伴ID", "伙伴编号", "partner_id")]
    partner_name: Annotated[OptionalLine, Column("伙伴名称", "合作伙伴名称")] = None
    ref: Annotated[OptionalRef, Column("联系人ID", "联系人编号", "contact_id")] = None
    role: Annotated[OptionalLine, BeforeValidator(role_of), Column("角色", "职务")] = None
    name: Annotated[OptionalLine, Column("姓名", "联系人", "联系人姓名")] = None
    mail: Annotated[OptionalMail, Column("邮箱", "电子邮箱", "邮件", "email")] = None
    mobile: Annotated[OptionalMobile, Column("手机", "手机号", "手机号码", "phone")] = None
    language: Annotated[Language, Column("语言")] = "zh-CN"
    time_zone: Annotated[Zone, Column("时区", "timezone")] = "Asia/Shanghai"
    channels: Annotated[Refs, Column("接收渠道", "渠道")] = ("mail", "sms")
    quiet_hours: Annotated[OptionalLine, AfterValidator(_quiet_hours), Column("免打扰时段")] = None
    digest: Annotated[
        Digest,
        choice(Digest, EACH="逐条|单独发送", DAILY="每日汇总|汇总"),
        Column("接收方式", "汇总方式"),
    ] = Digest.EACH
    active: Annotated[Flag, Column("启用")] = True


class AssociationType(StrEnum):
    """REFERRAL: the customer is the vendor's and pays it. RESALE: the partner's, and pays that."""

    REFERRAL = "REFERRAL"
    RESALE = "RESALE"


OptionalAssociation = Annotated[
    Annotated[AssociationType, choice(AssociationType, REFERRAL="1|顾问销售", RESALE="2|代售")]
    | None,
    BeforeValidator(lambda value: None if is_blank(value) else value),
]


class CustomerData(Data):
    """A customer of a partner. `associated_on` is when it became one; `left_on` when it ceased."""

    ref: Annotated[Ref, Column("客户ID", "客户编号", "customer_id")]
    partner: Annotated[Ref, Column("伙伴ID", "合作伙伴ID", "伙伴编号", "partner_id")]
    name: Annotated[OptionalLine, Column("客户名称", "客户", "customer_name")] = None
    association_type: Annotated[OptionalAssociation, Column("关联类型")] = None
    associated_on: Annotated[Instant, Column("关联时间", "关联日期")]
    left_on: Annotated[OptionalInstant, Column("解除关联时间", "取消关联时间")] = None
    account_manager: Annotated[OptionalRef, Column("客户经理ID")] = None


class SpendData(Data):
    """What one customer spent in one month (`2026-10`, Beijing), cash and all else, before tax.

    `cash` is what was paid in money, `other` what vouchers and cash coupons covered.
    """

    customer: Annotated[Ref, Column("客户ID", "客户编号", "customer_id")]
    partner: Annotated[Ref, Column("伙伴ID", "合作伙伴ID", "伙伴编号", "partner_id")]
    month: Annotated[Line, BeforeValidator(_month), Column("月份", "消费月份", "账期")]
    cash: Annotated[Amount, Column("现金消费", "现金支付", "现金消费金额")]
    other: Annotated[Amount, Column("其他消费", "其他消费金额")] = Decimal("0.00")
    currency: Annotated[Currency, Column("币种")] = "CNY"


@dataclass(frozen=True, slots=True)
class Contact:
    """A person as the planner sees one. `quiet` is the person's own wish, as in ContactData.

    `daily`: what isn't urgent comes in one mail a day.
    """

    ref: str
    partner: str
    role: str
    name: str
    mail: str | None = None
    mobile: str | None = None
    language: str = "zh-CN"
    time_zone: str = "Asia/Shanghai"
    channels: frozenset[str] = frozenset({"mail", "sms"})
    quiet: str | None = None
    daily: bool = False

    def address(self, channel: Channel) -> str | None:
        """The address for a channel, or None where there is none or it is masked."""
        found = self.mail if channel == "mail" else self.mobile
        return None if found is None or is_masked(found) else found


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner as rules and templates see one."""

    ref: str
    name: str
    type: str = ""
    parent: str | None = None
    account_authenticated: bool | None = None
