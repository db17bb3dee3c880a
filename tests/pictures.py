"""Pictures of what each rule says, mail and SMS, for docs/rules.md: `make pictures`.

It needs Chromium or Chrome. The time and the fonts are fixed, so the same words make the same
pictures.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from schedules import load_rules
from schedules.calendar import WorkingCalendar
from schedules.rule import Rule, Sample
from tests.conftest import BROWSERS
from workers.cli.rules_page import (
    NOW,
    PICTURE_WIDTH,
    PICTURES,
    picture_name,
    shown_message,
)
from workers.model import Notice
from workers.providers import Sms
from workers.render import Brand, Renderer
from workers.render.samples import sample_notices

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / PICTURES
FONTS = ROOT / "templates" / "fonts"
SCALE = 1.5
MOST_BYTES = 60_000
COLOURS = (48, 32, 24, 16)
APART = 14
"""How much two colours of a picture differ at least, over red, green and blue."""
MOST_PIXELS, CUT_PIXELS = 1300, 1050
"""A mail that is longer than the first fades out at the second, in CSS pixels."""
BRAND = Brand(
    product="Partner Reminders",
    products={"zh-CN": "伙伴提醒"},
    sender="Partner Reminders <no-reply@due.example.com>",
    contact="care@example.com",
    partner_centre_url="https://partner.example.com",
    domain="due.example.com",
    sms_signature="Partner",
    sms_signatures={"zh-CN": "伙伴提醒"},
)
SMS_WORD = {"en": ("SMS", "part", "parts"), "zh-CN": ("短信", "条", "条")}

# The shipped fonts instead of whatever the machine has.
STYLE = f"""
@font-face {{ font-family: shipped; font-weight: 400;
  src: url("{(FONTS / "NotoSansSC-Regular.ttf").as_uri()}"); }}
@font-face {{ font-family: shipped; font-weight: 500 900;
  src: url("{(FONTS / "NotoSansSC-Bold.ttf").as_uri()}"); }}
* {{ font-family: shipped !important; font-feature-settings: "pwid"; }}
:lang(zh) * {{ font-feature-settings: normal; }}
body {{ background: #eef2f6; }}
#long.cut {{ max-height: {CUT_PIXELS}px; overflow: hidden; position: relative; }}
#long.cut::after {{ content: ""; position: absolute; inset: auto 0 0; height: 90px;
  background: linear-gradient(#fff0, #fff); }}
#head {{ padding: 14px 18px; background: #fff; border-bottom: 1px solid #d9e0e8; color: #14202e;
  font-size: 15px; line-height: 1.45; font-weight: 600; }}
#head span, #sms span {{ display: block; font-size: 12px; font-weight: 400; color: #5a6675; }}
#sms {{ padding: 16px 18px 20px; border-top: 1px solid #d9e0e8; }}
#sms p {{ margin: 6px 0 0; padding: 11px 15px; border-radius: 16px 16px 16px 4px; background: #fff;
  color: #14202e; font-size: 15px; line-height: 1.5; overflow-wrap: anywhere; }}
"""
PUT = """([most, style, sender, subject, label, text]) => {
  const make = (tag, words, more = {}) => Object.assign(
    document.createElement(tag), {textContent: words}, more);
  document.head.append(make('style', style));
  const long = make('div', '', {id: 'long'});
  long.append(...document.body.childNodes);
  document.body.append(long);
  const head = make('div', '', {id: 'head'});
  head.append(make('span', sender), subject);
  document.body.prepend(head);
  if (text) {
    const sms = make('div', '', {id: 'sms'});
    sms.append(make('span', label), make('p', text));
    document.body.append(sms);
  }
  return document.fonts.ready.then(() => {
    long.classList.toggle('cut', long.scrollHeight > most);
    return document.documentElement.scrollWidth;
  });
}"""


def main(kinds: list[str]) -> None:
    """Write the pictures of these kinds, or of all."""
    rules, calendar = load_rules(), WorkingCalendar.load()
    renderer = Renderer(ROOT / "templates", rules, BRAND)
    program = next(found for name in BROWSERS if (found := shutil.which(name)))
    TARGET.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": PICTURE_WIDTH, "height": 600},
            device_scale_factor=SCALE,
            color_scheme="light",
        )
        for kind in kinds or rules:
            for tag in rules[kind].title:
                mail, sms = shown_notices(rules[kind], tag, calendar)
                content = _picture(page, Path(folder) / "mail.html", renderer, mail, sms)
                target = TARGET / picture_name(kind, tag)
                target.write_bytes(content)
                print(f"{target.relative_to(ROOT)} {len(content):,} bytes")
        browser.close()


def shown_notices(rule: Rule, tag: str, calendar: WorkingCalendar) -> tuple[Notice, Notice | None]:
    """The mail and, where there is one, the SMS that a rule's picture in a language shows.

    Both are of one sample, where there is one of a sample whose people speak the language.
    """
    message = shown_message(rule).message
    found = [
        notice
        for notice in sample_notices(rule, tag, NOW, calendar)
        if notice.message == message and len(notice.items) == 1
    ]
    own = {str(sample.data["ref"]) for sample in rule.samples(NOW) if tag in _languages(sample)}
    mails = {one.items[0].record.ref: one for one in found if one.channel == "mail"}
    texts = {one.items[0].record.ref: one for one in found if one.channel == "sms"}
    ref = min(mails, key=lambda ref: (bool(texts) and ref not in texts, ref not in own))
    return mails[ref], texts.get(ref)


def _languages(sample: Sample) -> Iterator[str]:
    named = [value for field, value in sample.data.items() if field.endswith("_language")]
    yield from named or [str(one["language"]) for one in sample.contacts if "language" in one]


def _picture(page: Page, file: Path, renderer: Renderer, mail: Notice, sms: Notice | None) -> bytes:
    tag = mail.recipient.language
    file.write_text(renderer.whole_page(mail), "utf-8")
    label = text = ""
    if sms is not None:
        message = renderer.render(sms)
        assert isinstance(message, Sms)
        word, one, many = SMS_WORD[tag]
        label = f"{word} · {message.parts} {one if message.parts == 1 else many}"
        text = message.text
    subject = renderer.parts(mail)["subject.txt"]
    sender = BRAND.products.get(tag, BRAND.product)
    page.goto(file.as_uri())
    wide = page.evaluate(PUT, [MOST_PIXELS, STYLE, sender, subject, label, text])
    assert wide <= PICTURE_WIDTH, f"{mail.kind} {tag} is {wide} px wide"
    return _small(page.screenshot(full_page=True))


def _small(png: bytes) -> bytes:
    """The picture with as many colours as its size allows."""
    image = Image.open(BytesIO(png)).convert("RGB")
    for count in COLOURS:
        target = BytesIO()
        _with_few(image, count).save(target, "PNG", optimize=True)
        if target.tell() <= MOST_BYTES:
            break
    return target.getvalue()


def _with_few(image: Image.Image, count: int) -> Image.Image:
    """The picture in its most frequent colours that can be told apart: flat areas stay exact.

    Pillow's own mapping to a palette drops the lowest bits, which tints white.
    """
    red, green, blue = np.asarray(image).astype(np.int32).reshape(-1, 3).T
    packed, at, often = np.unique(
        red << 16 | green << 8 | blue, return_inverse=True, return_counts=True
    )
    every = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    chosen: list[int] = []
    for one in np.argsort(-often, kind="stable"):
        if len(chosen) < count and all(_apart(every[one], every[o]) >= APART for o in chosen):
            chosen.append(int(one))
    palette = every[chosen]
    nearest = np.stack([_apart(every, colour) for colour in palette]).argmin(axis=0)
    few = Image.fromarray(nearest[at.reshape(image.height, image.width)].astype(np.uint8))
    few.putpalette([int(part) for part in palette.reshape(-1)])
    return few


def _apart(some: Any, other: Any) -> Any:
    return np.abs(some - other).sum(axis=-1)


if __name__ == "__main__":
    main(sys.argv[1:])
