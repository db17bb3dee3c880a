"""Payments: an approved payment request waits for the partner's invoices.

Opens:      its status says that invoices are due (付款申请审核通过, 待开票 …); which status that is
            depends on the programme
Closes:     invoice numbers reported and invoices received, or a later status; invoices that are
            rejected open it again, on a new ladder
Deadline:   none is published, so nothing ends by itself: the ladder counts from approval
Tells:      finance, by mail with the invoice list and by SMS; from the third rung on also the
            administrator and the partner manager
Goes along: the invoice list; one that doesn't add up is held, and so is one with a bill that was
            cancelled
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Amount,
    Column,
    Currency,
    Line,
    OptionalAmount,
    OptionalFlag,
    OptionalInstant,
    OptionalLine,
    OptionalQuantity,
    OptionalRef,
    Rate,
    Ref,
    Refs,
    choice,
    is_masked,
)
from schedules.invoice_list import InvoiceList, findings
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    LineData,
    Link,
    Plain,
    Record,
    RecordData,
    Related,
    Rule,
    Sample,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._payment_samples import payment_samples


class Programme(StrEnum):
    """What the money is for; it decides which status means that invoices are due."""

    FH = "FH"
    KOOGALLERY = "KOOGALLERY"
    OPP_INCENTIVE = "OPP_INCENTIVE"
    MDF = "MDF"
    DELIVERY = "DELIVERY"
    INCENTIVE = "INCENTIVE"
    EI_PROCUREMENT = "EI_PROCUREMENT"


class InvoiceType(StrEnum):
    """SPECIAL is the VAT special invoice (专票), the only one taken for incentives."""

    SPECIAL = "SPECIAL"
    GENERAL = "GENERAL"


class Medium(StrEnum):
    """How the invoices come: fully digital ones need no posting."""

    DIGITAL = "DIGITAL"
    PAPER = "PAPER"


_programme = choice(
    Programme,
    FH="专职人员激励|专职人员激励(FH)|专职人员激励（FH）|FH激励",
    KOOGALLERY="云商店|云商店分账|云商店商品分账",
    OPP_INCENTIVE="云商店机会点专项激励|机会点激励|机会点专项激励",
    MDF="市场发展基金|市场拓展基金|MDF激励",
    DELIVERY="交付能力提升支持|交付能力提升",
    INCENTIVE="激励|激励申付|伙伴激励",
    EI_PROCUREMENT="采购介入类|EI采购介入类|采购介入类账单",
)


class PaymentData(RecordData):
    """One payment request (申付单). `status` is the programme's own word for where it stands.

    `amount_incl_tax` is what was approved, tax included, in `currency`; the lines must add up to
    it. `rejected_count` counts the times its invoices were sent back, the last at `rejected_at`.
    """

    ref: Annotated[Ref, Column("申付单号", "付款申请单号", "申付单", "编号", "payment_id")]
    programme: Annotated[Programme, _programme, Column("激励类型", "项目类型", "业务类型")]
    status: Annotated[Line, Column("状态", "申付状态", "付款申请状态")]
    approved_at: Annotated[
        OptionalInstant, Column("审核通过时间", "批准时间", "申付审核通过时间")
    ] = None
    amount_incl_tax: Annotated[Amount, Column("申付金额", "含税金额", "申付金额(含税)", "价税合计")]
    currency: Annotated[Currency, Column("币种", "结算币种")] = "CNY"
    periods: Annotated[Refs, Column("账期", "对账期次", "结算周期")] = ()
    bill_ids: Annotated[Refs, Column("账单ID", "账单编号")] = ()
    invoice_type: Annotated[
        InvoiceType,
        choice(
            InvoiceType,
            SPECIAL="专票|增值税专用发票|电子专票|专用发票",
            GENERAL="普票|增值税普通发票|普通发票",
        ),
        Column("发票类型"),
    ] = InvoiceType.SPECIAL
    medium: Annotated[
        Medium,
        choice(Medium, DIGITAL="电子|数电|数电发票|电子发票", PAPER="纸质|纸质发票"),
        Column("发票介质", "发票形式"),
    ] = Medium.DIGITAL
    buyer_title: Annotated[OptionalLine, Column("购方名称", "发票抬头", "购买方名称")] = None
    buyer_tax_no: Annotated[OptionalLine, Column("购方税号", "购买方税号", "纳税人识别号")] = None
    buyer_address: Annotated[OptionalLine, Column("购方地址", "购买方地址")] = None
    buyer_phone: Annotated[OptionalLine, Column("购方电话", "购买方电话")] = None
    buyer_bank: Annotated[OptionalLine, Column("购方开户行", "购买方开户行")] = None
    buyer_account: Annotated[OptionalLine, Column("购方账号", "购方银行账号", "购买方账号")] = None
    seller_title: Annotated[OptionalLine, Column("销方名称", "销售方名称")] = None
    seller_tax_no: Annotated[OptionalLine, Column("销方税号", "销售方税号")] = None
    seller_address: Annotated[OptionalLine, Column("销方地址", "销售方地址")] = None
    seller_phone: Annotated[OptionalLine, Column("销方电话", "销售方电话")] = None
    seller_bank: Annotated[OptionalLine, Column("销方开户行", "销售方开户行")] = None
    seller_account: Annotated[OptionalLine, Column("销方账号", "销方银行账号", "销售方账号")] = None
    post_recipient: Annotated[OptionalLine, Column("邮寄收件人", "收件人")] = None
    post_phone: Annotated[OptionalLine, Column("邮寄电话", "收件电话", "收件人电话")] = None
    post_address: Annotated[OptionalLine, Column("邮寄地址", "收件地址")] = None
    post_mailbox: Annotated[OptionalLine, Column("收票邮箱", "发票接收邮箱")] = None
    invoice_numbers: Annotated[Refs, Column("发票号码", "发票号")] = ()
    invoices_received_at: Annotated[OptionalInstant, Column("发票签收时间", "收票时间")] = None
    account_authenticated: Annotated[OptionalFlag, Column("商业信息认证")] = None
    rejected_count: Annotated[int, Field(ge=0, lt=10_000), Column("发票驳回次数", "驳回次数")] = 0
    rejected_at: Annotated[OptionalInstant, Column("发票驳回时间", "驳回时间")] = None


class InvoiceLine(LineData):
    """One row of a payment's invoice list, in the payment's currency.

    The amount including tax is authoritative: where the other two are missing, the list works them
    out. `invoice_number` stays empty until it is issued.
    """

    payment: Annotated[Ref, Column("申付单号", "付款申请单号", "申付单", "payment_id")]
    line: Annotated[int, Field(ge=1, lt=1_000_000), Column("行号", "序号")]
    bill_id: Annotated[OptionalRef, Column("账单ID", "账单编号")] = None
    item_name: Annotated[
        Line, Column("项目名称", "货物或应税劳务名称", "货物或应税劳务、服务名称", "商品名称")
    ]
    spec: Annotated[OptionalLine, Column("规格型号")] = None
    unit: Annotated[OptionalLine, Column("单位")] = None
    quantity: Annotated[OptionalQuantity, Column("数量")] = None
    unit_price: Annotated[OptionalQuantity, Column("单价")] = None
    amount_ex_tax: Annotated[OptionalAmount, Column("不含税金额", "金额(不含税)", "金额")] = None
    tax_rate: Annotated[Rate, Column("税率", "税率/征收率", "征收率")]
    tax: Annotated[OptionalAmount, Column("税额")] = None
    amount_incl_tax: Annotated[Amount, Column("含税金额", "价税合计", "开票金额")]
    invoice_number: Annotated[OptionalRef, Column("发票号码", "发票号")] = None


class Phase(Enum):
    """What a status means for the invoices."""

    BEFORE = "not approved yet"
    DUE = "invoices are due"
    SENT_BACK = "the invoices were sent back"
    AFTER = "the invoices are with the vendor, or paid"
    ENDED = "withdrawn"


_AFTER = (
    "发票待审核|发票审核|发票审核中|申付审核|申付审核中|支付中|已完成|INVOICE_REVIEW|PAYING|DONE"
)
_PAID = "已支付|付款成功|PAID"
_SENT_BACK = "发票审核不通过|发票审核驳回|发票驳回|INVOICE_REJECTED"
_ENDED = "已取消|已作废|已撤销|CANCELLED"
_BEFORE = "待提交申请|DRAFT|IN_REVIEW|REJECTED"
_REQUEST_BEFORE = "付款申请审核中|审核不通过|付款申请审核不通过|申请处理中"
_COUNTERSIGN = "待会签|会签中|会签驳回|待申付|申付单创建失败"


def _statuses(
    *, due: str, before: str = _REQUEST_BEFORE, after: str = f"{_AFTER}|{_PAID}"
) -> Mapping[str, Phase]:
    phases = {
        Phase.BEFORE: f"{before}|{_BEFORE}",
        Phase.AFTER: after,
        Phase.SENT_BACK: _SENT_BACK,
        Phase.ENDED: _ENDED,
        Phase.DUE: f"{due}|APPROVED",
    }
    return {word: phase for phase, words in phases.items() for word in words.split("|")}


PROGRAMMES: Mapping[Programme, Mapping[str, Phase]] = {
    Programme.FH: _statuses(due="付款申请审核通过"),
    Programme.DELIVERY: _statuses(due="付款申请审核通过"),
    Programme.MDF: _statuses(
        due="兑现申报审核通过", before="兑现申报审核中|兑现申报审核不通过|待兑现申报"
    ),
    Programme.KOOGALLERY: _statuses(due="待开票", before=_COUNTERSIGN),
    Programme.INCENTIVE: _statuses(due="待开票|伙伴开票", before=_REQUEST_BEFORE),
    Programme.EI_PROCUREMENT: _statuses(
        due="待开票|为采购介入类账单开票", before="待确认|已确认|分账结算|分账结算中|待申付"
    ),
    # Here the bill is paid first, and only a paid bill shows its list.
    Programme.OPP_INCENTIVE: _statuses(
        due=_PAID, before="激励审核中|激励公示待确认|待支付|发放中", after=_AFTER
    ),
}
"""Which status of a programme means what. The vendor has no status common to all programmes."""


def stands_for_its_bills(related: Related) -> bool:
    """Whether a linked record is a payment that was approved and hasn't been withdrawn since."""
    data = related.data
    if not isinstance(data, PaymentData):
        return False
    return phase_of(data) in {Phase.DUE, Phase.SENT_BACK, Phase.AFTER}


def phase_of(data: PaymentData) -> Phase | None:
    """What the status means in its programme, or None for a word that the table doesn't have."""
    return PROGRAMMES[data.programme].get(data.status.strip().upper())


class Payment(Rule):
    """An approved payment waits for invoices."""

    kind = "payment"
    title: ClassVar[Mapping[str, str]] = {"en": "Payment", "zh-CN": "申付单"}
    Data = PaymentData
    Line = InvoiceLine
    cadence = Cadence(
        stages=(
            stage("+1", "opened + 1 working day", Tell("finance", ("mail", "sms")), required=True),
            stage("+3", "opened + 3 working days", Tell("finance", ("mail", "sms"))),
            stage(
                "+7",
                "opened + 7 working days",
                Tell("finance", ("mail", "sms")),
                Tell("administrator", ("mail",), "escalation"),
                Tell("partner_manager", ("mail",), "escalation"),
            ),
            stage(
                "+12",
                "opened + 12 working days, then every 5 working days",
                Tell("finance", ("mail", "sms")),
                Tell("administrator", ("mail",), "escalation"),
                Tell("partner_manager", ("mail",), "escalation"),
            ),
        )
    )

    def opened_at(self, data: PaymentData) -> datetime:
        """When it was approved, or its invoices were sent back, whichever is later."""
        approved = data.approved_at or data.updated_at or _LONG_AGO
        return max(approved, data.rejected_at or approved)

    def deadline(self, data: PaymentData, calendar: WorkingCalendar) -> Deadline:
        """None: the vendor publishes no last day for invoices."""
        return Deadline(None)

    def ladder(self, data: PaymentData) -> str:
        """Each time the invoices are sent back a new climb begins."""
        return str(data.rejected_count + 1)

    def assess(self, data: PaymentData, lines: Sequence[InvoiceLine]) -> Assessment:
        """By the programme's table; what is due is held while its list can't be relied on."""
        phase = phase_of(data)
        if phase is None:
            return Assessment(State.HELD, _unknown_status(data))
        if phase in {Phase.AFTER, Phase.ENDED}:
            return Assessment(State.CLOSED, f"{data.status}: {phase.value}")
        if data.amount_incl_tax <= 0:
            return Assessment(
                State.CLOSED, f"nothing to invoice: the total is {data.amount_incl_tax}"
            )
        if phase is Phase.BEFORE:
            return Assessment(State.WAITING, f"{data.status}: {phase.value}")
        step = next_step(data, lines)
        if step is None:
            return Assessment(State.CLOSED, "the invoices were reported and received")
        if wrong := [*_obstacles(data, lines)]:
            return Assessment(State.HELD, "; ".join(wrong))
        return Assessment(State.OPEN, _STEPS[step])

    def links(self, data: PaymentData) -> Sequence[Link]:
        """The statements and incentives that it is made of: the first 200."""
        refs = tuple(dict.fromkeys(data.bill_ids))[:MAX_LINKED]
        return [Link(kind, ref) for kind in ("statement", "incentive") for ref in refs]

    def in_light_of(
        self,
        data: PaymentData,
        related: Sequence[Related],
        assessment: Assessment,
        deadline: Deadline,
    ) -> tuple[Assessment, Deadline]:
        """Money for a bill that was cancelled since isn't to be invoiced as it stands."""
        cancelled = sorted(
            one.ref
            for one in related
            if one.kind == "statement" and getattr(one.data, "status", None) == "CANCELLED"
        )
        if not cancelled or assessment.state not in {State.OPEN, State.HELD}:
            return assessment, deadline
        wrong = [assessment.why] if assessment.state is State.HELD else []
        wrong += [
            f"bill_ids: statement {ref} was cancelled: take it out of the payment and its list, "
            "or correct the statement"
            for ref in cancelled
        ]
        return Assessment(State.HELD, "; ".join(wrong)), deadline

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the list's header, lines and totals, and `next_step`: report, post or correct.

        `statements` are the bills that are watched themselves, with their periods.
        """
        data = data_of(record, PaymentData)
        invoice_list = self._list(record)
        flag = data.account_authenticated
        return {
            **super().view(record),
            "programme": data.programme.value,
            "status": data.status,
            "approved_at": data.approved_at,
            "amount_incl_tax": data.amount_incl_tax,
            "currency": data.currency,
            "periods": list(data.periods),
            "bill_ids": list(invoice_list.bill_ids),
            "statements": _statements(record),
            "invoice_type": data.invoice_type.value,
            "medium": data.medium.value,
            "buyer": asdict(invoice_list.buyer),
            "seller": asdict(invoice_list.seller),
            "post_to": asdict(invoice_list.post_to),
            "lines": [asdict(row) for row in invoice_list.rows],
            "line_count": len(invoice_list.rows),
            "total": asdict(invoice_list.total),
            "totals_by_rate": [
                {"tax_rate": part.rate, **asdict(part.total)} for part in invoice_list.rate_totals
            ],
            "invoice_numbers": list(data.invoice_numbers),
            "invoices_received_at": data.invoices_received_at,
            "next_step": next_step(data, _lines(record)),
            "rejected_count": data.rejected_count,
            "account_authenticated": record.partner.account_authenticated if flag is None else flag,
        }

    def amount(self, record: Record) -> tuple[Decimal, str]:
        """The approved amount including tax."""
        data = data_of(record, PaymentData)
        return data.amount_incl_tax, data.currency

    def documents(self, record: Record) -> Sequence[InvoiceList]:
        """The invoice list; none for a record without lines."""
        return (self._list(record),) if record.lines else ()

    def samples(self, now: datetime) -> Sequence[Sample]:
        """A usual one, English by post, reported but not posted, and invoices sent back."""
        return payment_samples(now)

    def _list(self, record: Record) -> InvoiceList:
        return InvoiceList.build(data_of(record, PaymentData), _lines(record), record.partner.name)


MAX_LINKED = 200
"""So many bills of one payment are looked at together with it."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_STEPS = {
    "report": "approved: the invoices are to be issued and their numbers reported",
    "post": "the invoice numbers are reported, the invoices haven't been received: post them",
    "correct": "the invoices were sent back: correct them and report their numbers again",
}


def next_step(data: PaymentData, lines: Sequence[InvoiceLine]) -> str | None:
    """What the partner has to do at the trigger: report, post, correct, or None when it is done.

    The numbers count as reported when the payment has them, or each of its lines does.
    """
    if phase_of(data) is Phase.SENT_BACK:
        return "correct"
    on_lines = bool(lines) and all(line.invoice_number for line in lines)
    if not (data.invoice_numbers or on_lines):
        return "report"
    return None if data.invoices_received_at else "post"


def _unknown_status(data: PaymentData) -> str:
    due = [word for word, phase in PROGRAMMES[data.programme].items() if phase is Phase.DUE]
    return (
        f"status: {data.status!r} isn't a status of programme {data.programme}: "
        f"correct it (invoices are due at {' or '.join(due)})"
    )


_PRINTED = tuple(
    name for name in PaymentData.model_fields if name.startswith(("buyer_", "seller_", "post_"))
)


def _obstacles(data: PaymentData, lines: Sequence[InvoiceLine]) -> Iterator[str]:
    if data.approved_at is None and data.updated_at is None:
        yield "approved_at: is missing, so nothing counts from it: fill it in"
    for name in _PRINTED:
        if is_masked(getattr(data, name)):
            yield f"{name}: is masked: export it in full"
    yield from findings(InvoiceList.build(data, lines, data.partner))


def _statements(record: Record) -> list[Plain]:
    periods: dict[str, str | None] = {
        one.ref: getattr(one.data, "period", None)
        for one in record.related
        if one.kind in {"statement", "incentive"}
    }
    return [{"ref": ref, "period": periods[ref]} for ref in sorted(periods)]


def _lines(record: Record) -> list[InvoiceLine]:
    return [line for line in record.lines if isinstance(line, InvoiceLine)]
