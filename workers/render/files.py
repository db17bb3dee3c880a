"""The files that go along with a notice: each record's lists, made only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schedules.figures import Figures
from schedules.invoice_list import InvoiceList
from schedules.rule import Rule
from workers.model import NoticeItem
from workers.render.figures import figures_file_name
from workers.render.labels import labels

XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
Maker = tuple[str, str, Callable[[], bytes]]
"""(file name, media type, what makes the content)"""


def files_of(
    rules: Mapping[str, Rule], items: Sequence[NoticeItem], tag: str, titles: Mapping[str, str]
) -> list[list[Maker]]:
    """The files of each record that has any, in the items' order: they go together or not at all.

    An invoice list comes as XLSX and as PDF, figures as XLSX.
    """
    groups: list[list[Maker]] = []
    for item in items:
        rule, record = rules[item.record.kind], item.record
        for document in rule.documents(record):
            name = labels(tag).file_name
            groups.append(
                [
                    (name(document, ".xlsx"), XLSX_TYPE, _list_maker("xlsx", document, tag)),
                    (name(document, ".pdf"), "application/pdf", _list_maker("pdf", document, tag)),
                ]
            )
        if figures := rule.figures(record):
            maker = _figures_maker(figures, tag, titles)
            groups.append([(figures_file_name(figures, tag), XLSX_TYPE, maker)])
    return groups


def _list_maker(form: str, document: InvoiceList, tag: str) -> Callable[[], bytes]:
    def make() -> bytes:
        # both libraries take longer to load than most commands to run
        if form == "xlsx":
            from workers.render.xlsx import invoice_list_xlsx

            return invoice_list_xlsx(document, tag)
        from workers.render.pdf import invoice_list_pdf

        return invoice_list_pdf(document, tag)

    return make


def _figures_maker(figures: Figures, tag: str, titles: Mapping[str, str]) -> Callable[[], bytes]:
    def make() -> bytes:
        from workers.render.figures_xlsx import figures_xlsx

        return figures_xlsx(figures, tag, titles)

    return make
