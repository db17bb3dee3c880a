"""The one message that all of them send: Chinese text and HTML with a table of ten rows, 4 kB.

Imported by the peers too, whose environment has none of our libraries.
"""

from __future__ import annotations

ROWS = tuple((number, f"技术服务费 {number}", f"{1280.5 * number:,.2f}") for number in range(1, 11))
TEXT = """{name}，您好：

对账单 {ref} 待您确认，逾期将由系统自动处理。明细如下：

{rows}

请登录合作伙伴中心确认：https://partner.example.com/statements/{ref}
"""
TEXT_ROW = "{0}  {1}  CNY {2}"
HTML = """<!doctype html><html lang="zh-CN"><body style="font-family:sans-serif">
<p>{name}，您好：</p><p>对账单 <b>{ref}</b> 待您确认，逾期将由系统自动处理。明细如下：</p>
<table border="1" cellpadding="6"><tr><th>行</th><th>项目</th><th>金额</th></tr>
{rows}
</table><p><a href="https://partner.example.com/statements/{ref}">登录合作伙伴中心确认</a></p>
</body></html>
"""
HTML_ROW = '<tr><td>{0}</td><td>{1}</td><td align="right">CNY {2}</td></tr>'
SUBJECT = "请确认对账单 {ref}"


def rendered(name: str, ref: str) -> tuple[str, str, str]:
    """(subject, text, HTML) as a peer's task writes them: by str.format, quicker than Jinja2."""
    text = "\n".join(TEXT_ROW.format(*row) for row in ROWS)
    html = "\n".join(HTML_ROW.format(*row) for row in ROWS)
    return (
        SUBJECT.format(ref=ref),
        TEXT.format(name=name, ref=ref, rows=text),
        HTML.format(name=name, ref=ref, rows=html),
    )


def templates() -> dict[str, str]:
    """The same as our templates: file name -> content, the rows written by a loop of Jinja2."""
    listed = repr([list(map(str, row)) for row in ROWS])
    values = {"name": "{{ recipient.name }}", "ref": "{{ items[0].ref }}"}
    loop = "{% for row in " + listed + " %}ROW{% endfor %}"
    cells = ["{{ row[0] }}", "{{ row[1] }}", "{{ row[2] }}"]
    text = loop.replace("ROW", TEXT_ROW.format(*cells) + "\n")
    html = loop.replace("ROW", HTML_ROW.format(*cells) + "\n")
    return {
        "subject.txt": SUBJECT.format(ref=values["ref"]),
        "txt": TEXT.format(**values, rows=text),
        "html": HTML.format(**values, rows=html),
    }
