"""The start page as readers meet it: signing in, live numbers, a person and the why, by keyboard, in four languages, safely."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from conosco.model.answer import Movement
from tests.browser.chromium import Tab
from tests.unit.web.fake_office import ADMIN_TOKEN, ANNA, HOSTILE, FakeOffice
from tests.unit.web.fake_traffic import T1

pytestmark = pytest.mark.browser
OpenTab = Callable[..., Tab]

# Contrast by the formula of WCAG 2.2, of every text that is shown, against the nearest painted ground.
CONTRAST = """
(() => {
  const channel = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const read = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = read(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.getClientRects().length || node.closest(".unseen, .skip, script, noscript")) continue;
    const [one, other] = [light(read(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    seen += 1;
    if (ratio < 4.5) poor.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return { seen, poor };
})()
"""


def signed_in(open_tab: OpenTab, site: str, **options: Any) -> Tab:
    """A tab that came by the one-time link and shows the desk."""
    tab = open_tab(**options)
    tab.open(f"{site}/sign-in?code=good-code")
    tab.wait_for("document.querySelectorAll('#deliveries li').length === 3")
    return tab


def find(tab: Tab, ref: str) -> None:
    """Look a person up by keyboard."""
    tab.evaluate("document.getElementById('person-ref').value = ''; document.getElementById('person-ref').focus()")
    tab.type(ref)
    tab.press("Enter")


def test_nothing_is_shown_before_signing_in(open_tab: OpenTab, site: str) -> None:
    tab = open_tab()
    tab.open(site)
    tab.wait_for("document.activeElement.id === 'token'")
    assert "Sign in" in tab.text()
    for data in ("12,480", "Loyal", "pro_"):
        assert data not in tab.text()
    assert tab.complaints() == []


def test_the_token_signs_in_and_out_by_keyboard_alone(open_tab: OpenTab, site: str) -> None:
    tab = open_tab()
    tab.open(site)
    tab.wait_for("document.activeElement.id === 'token'")
    tab.type("wrong")
    tab.press("Enter")
    tab.wait_for("document.getElementById('sign-in-problem').textContent.includes('The token is not right')")
    tab.evaluate("document.getElementById('token').value = ''")
    tab.type(ADMIN_TOKEN)
    tab.press("Enter")
    tab.wait_for("document.body.innerText.includes('12,480')")
    assert tab.evaluate("document.cookie") == "", "the session is out of reach of scripts"
    tab.wait_for("document.activeElement.id === 'main'")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "person-ref", "the next stop is the search"
    tab.evaluate("document.getElementById('sign-out').focus()")
    tab.press("Enter")
    tab.wait_for("document.activeElement.id === 'token'")
    assert "12,480" not in tab.evaluate("document.body.textContent")


def test_a_used_link_explains_itself(open_tab: OpenTab, site: str) -> None:
    tab = open_tab()
    tab.open(f"{site}/sign-in?code=used-before")
    tab.wait_for("document.body.innerText.includes('already used or is too old')")


def test_numbers_segments_movements_and_deliveries_are_shown(open_tab: OpenTab, site: str) -> None:
    tab = signed_in(open_tab, site)
    text = tab.text()
    for shown in (
        "12,480",
        "12,300",
        "Loyal",
        "Newcomers",
        "2 people",
        "did Order Completed at least 2 times",
        "Entered",
        "Left",
    ):
        assert shown in text
    for shown in ("Delivered", "Failed", "http_500", "12 attempts", "Not permitted", "no_consent"):
        assert shown in text
    assert tab.evaluate("location.pathname") == "/"
    assert tab.complaints() == []


def test_the_page_is_live_and_keeps_the_focus(open_tab: OpenTab, site: str, office: FakeOffice) -> None:
    tab = signed_in(open_tab, site)
    tab.evaluate("document.querySelector('#movements button').focus()")
    before = tab.evaluate("document.activeElement.dataset.key")
    office.progress.counts = msgspec.structs.replace(office.progress.counts, accepted=12_999)
    office.segments.movement_list.insert(
        0, Movement(type="segment.exited", segment="newcomers", profile_id=ANNA, at=T1, position=950)
    )
    tab.wait_for("document.body.innerText.includes('12,999') && document.querySelectorAll('#movements li').length === 3")
    assert tab.evaluate("document.activeElement.dataset.key") == before


@pytest.mark.parametrize("ref", ["email:anna@example.com", "user_id:a/b c%?#", ANNA])
def test_a_person_is_found_and_the_why_is_told(open_tab: OpenTab, site: str, ref: str) -> None:
    tab = signed_in(open_tab, site)
    find(tab, ref)
    tab.wait_for("document.querySelector('.person')")
    text = tab.text()
    for shown in (ANNA, "anna@example.com", "first_name", "Anna", "Web shop", "129.900001", "computed", "In\nLoyal", "Not in"):
        assert shown in text
    tab.evaluate("document.querySelector('[data-key=\"why newcomers\"]').focus()")
    tab.press("Enter")
    tab.wait_for("document.querySelectorAll('.conditions li').length === 2")
    conditions = tab.evaluate("[...document.querySelectorAll('.conditions li')].map((item) => item.innerText)")
    assert "Met" in conditions[0]
    assert "country is IT" in conditions[0]
    assert "Not met" in conditions[1], "told in words, not by colour alone"
    assert tab.evaluate("document.activeElement.dataset.key") == "why newcomers"
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert tab.evaluate("location.hash") == f"#{ANNA}", "the address names no personal data"
    assert tab.complaints() == []


def test_a_person_is_opened_from_a_movement(open_tab: OpenTab, site: str) -> None:
    tab = signed_in(open_tab, site)
    tab.evaluate("document.querySelector('#movements button').click()")
    tab.wait_for("document.querySelector('.person')")


@pytest.mark.parametrize(
    ("ref", "told"), [("email:nobody@example.com", "Not found"), ("nonsense", "neither a profile id nor namespace:value")]
)
def test_a_search_without_result_explains_itself(open_tab: OpenTab, site: str, ref: str, told: str) -> None:
    tab = signed_in(open_tab, site)
    find(tab, ref)
    tab.wait_for(f"document.getElementById('person-problem').textContent.includes('{told}')")


def test_a_failed_delivery_is_tried_again(open_tab: OpenTab, site: str, office: FakeOffice) -> None:
    tab = signed_in(open_tab, site)
    tab.evaluate("document.querySelector('[data-key=\"retry dlv_2\"]').click()")
    tab.wait_for("document.getElementById('said').textContent.includes('tried again')")
    assert office.care.retried == ["dlv_2"]


def test_trouble_is_told_and_passes(open_tab: OpenTab, site: str, office: FakeOffice) -> None:
    tab = signed_in(open_tab, site)
    office.progress.crash = ValueError("inside")
    tab.wait_for("document.getElementById('banner').innerText.includes('Something went wrong on our side')")
    office.progress.crash = None
    tab.wait_for("document.getElementById('banner').hidden")


def test_hostile_texts_are_shown_and_never_run(open_tab: OpenTab, site: str, office: FakeOffice) -> None:
    tab = signed_in(open_tab, site)
    office.people.first_name = HOSTILE
    name: dict[Any, str] = {"en": HOSTILE}
    loyal = office.definitions.rows["segment", "loyal"]
    office.definitions.rows["segment", "loyal"] = msgspec.structs.replace(loyal, name=name)
    office.care.delivery_list[1] = msgspec.structs.replace(office.care.delivery_list[1], code=HOSTILE, destination=HOSTILE)
    find(tab, HOSTILE)
    tab.wait_for("document.getElementById('person-problem').textContent.includes('<img')")
    find(tab, "email:anna@example.com")
    tab.wait_for("document.querySelector('.person') && document.querySelector('#deliveries').textContent.includes('<img')")
    tab.evaluate("document.querySelector('[data-key=\"why loyal\"]').click()")
    tab.wait_for("document.querySelector('.conditions')")
    shown = tab.evaluate("document.body.textContent")
    assert shown.count("<script>") >= 4
    assert tab.evaluate("document.title") == "Conosco"
    assert tab.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert tab.complaints() == []


def test_the_policy_stops_scripts_that_are_not_ours(open_tab: OpenTab, site: str) -> None:
    tab = signed_in(open_tab, site)
    inline = "const node = document.createElement('script'); node.textContent = \"document.title = 'hacked'\";"
    tab.evaluate(f"(() => {{ {inline} document.body.append(node); }})()")
    assert tab.evaluate("document.title") == "Conosco"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints())


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("it-IT", ["Trova una persona", "12.480", "Fedeli", "2 persone", "Consegnata"]),
        ("pl", ["Znajdź osobę", "Lojalni", "2 osoby", "12 prób", "Dostarczono", "W kwarantannie"]),
        ("pt-BR", ["Encontrar uma pessoa", "Fiéis", "2 pessoas", "12 tentativas", "Entregue", "Em quarentena"]),
        ("fr", ["Find a person", "Loyal"]),
    ],
)
def test_the_page_speaks_the_readers_language(open_tab: OpenTab, site: str, language: str, shown: list[str]) -> None:
    tab = signed_in(open_tab, site, language=language)
    text = tab.text()
    for words in shown:
        assert words in text
    assert tab.evaluate("document.documentElement.lang") == (language[:2] if language != "fr" else "en")
    find(tab, "email:nobody@example.com")
    tab.wait_for("document.getElementById('person-problem').textContent.length > 20")
    said = tab.evaluate("document.getElementById('person-problem').textContent")
    assert ("Not found" in said) == (language == "fr"), "the API's words come in the same language"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_can_be_read(open_tab: OpenTab, site: str, width: int, dark: bool) -> None:
    tab = signed_in(open_tab, site, width=width, dark=dark, language="pt")
    find(tab, "email:anna@example.com")
    tab.wait_for("document.querySelector('.person')")
    tab.evaluate("document.querySelector('[data-key=\"why newcomers\"]').click()")
    tab.wait_for("document.querySelector('.conditions')")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    outside = "[...document.querySelectorAll('.card *')].filter((node) => node.getClientRects().length && !node.closest('.unseen, thead')"
    outside += " && node.getBoundingClientRect().right > node.closest('.card').getBoundingClientRect().right + 0.5).length"
    assert tab.evaluate(outside) == 0
    contrast = tab.evaluate(CONTRAST)
    assert contrast["seen"] > 60
    assert contrast["poor"] == []
    small = "[...document.querySelectorAll('button, input')].filter((node) => node.getClientRects().length"
    small += " && Math.min(node.getBoundingClientRect().height, node.getBoundingClientRect().width) < 24).length"
    assert tab.evaluate(small) == 0
    unnamed = "[...document.querySelectorAll('button, input')].filter((node) => !(node.getAttribute('aria-label')"
    unnamed += " || node.innerText || node.labels?.length)).length"
    assert tab.evaluate(unnamed) == 0


def test_only_this_server_is_asked(open_tab: OpenTab, site: str) -> None:
    tab = signed_in(open_tab, site)
    find(tab, "email:anna@example.com")
    tab.wait_for("document.querySelector('.person')")
    asked = tab.requested()
    assert len(asked) > 8
    assert {url for url in asked if not url.startswith(site + "/")} == set()
