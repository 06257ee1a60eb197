"""Automated traffic: programs are told from people by the event alone, and what is unsure is a person."""

import json
from typing import Any

import pytest

from conosco.collect import automated
from conosco.collect.automated import LIST, is_automated
from tests.unit.collect.requests import event_of, track

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
PROGRAMS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.0.0 Safari/537.36",
    "facebookexternalhit/1.1",
    "WhatsApp/2.23.20.0 A",
    "Slackbot-LinkExpanding 1.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; SomethingNew/1.0; +https://something.example/about)",
    "Mozilla/5.0 (compatible; UptimeRobot/2.0)",
    "Mozilla/5.0",
    "Mozilla/5.0 (compatible)",
    "curl/8.5.0",
    "python-requests/2.31.0",
    "GOOGLEBOT",
)
PEOPLE = (
    CHROME,
    "Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE_S) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; CUBOT) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 300.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Slack/4.35 Chrome/118 Electron/27.0 Safari/537.36",
    # A person opens the mail, the provider fetches its picture.
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "MyShop/3.1 CFNetwork/1485 Darwin/23.1.0",
    "Dalvik/2.1.0 (Linux; U; Android 12; Pixel 6)",
    "okhttp/4.12.0",
    "",
)


def judged(name: str = "Viewed", properties: Any = None, **context: Any) -> bool:
    return is_automated(name, json.dumps(context).encode(), json.dumps(properties or {}).encode())


@pytest.mark.parametrize("agent", PROGRAMS)
def test_programs_are_told_by_their_user_agent(agent: str) -> None:
    assert judged(userAgent=agent)


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_are_people(agent: str) -> None:
    assert not judged(userAgent=agent)


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in LIST.words.items() for word in words])
def test_every_word_of_the_list_marks_a_program(kind: str, word: str) -> None:
    assert judged(userAgent=f"Mozilla/5.0 (compatible; {word.lower()}x)"), kind


def test_the_list_says_where_it_comes_from() -> None:
    assert LIST.source and LIST.licence and LIST.as_of


def test_hints_name_a_program_that_its_user_agent_hides() -> None:
    brands = [{"brand": "Not_A Brand", "version": "8"}, {"brand": "HeadlessChrome", "version": "120"}]
    assert judged(userAgent=CHROME, userAgentData={"brands": brands})
    assert not judged(userAgent=CHROME, userAgentData={"brands": [{"brand": "Chromium", "version": "120"}]})
    assert not judged(userAgentData={"brands": "HeadlessChrome"})


def test_the_senders_own_word_decides() -> None:
    assert judged(userAgent=CHROME, automated=True)
    assert not judged(userAgent="curl/8.5.0", automated=False)
    # Anything but true and false is no word.
    assert judged(userAgent="curl/8.5.0", automated="no")


@pytest.mark.parametrize(
    ("name", "properties", "expected"),
    [
        ("Email Opened", {"machine_open": True}, True),
        ("Email Opened", {"sg_machine_open": "true"}, True),
        ("Email Link Clicked", {"bot": True}, True),
        ("Email Opened", {"machine_open": False}, False),
        ("Email Opened", {}, False),
        ("Order Completed", {"machine_open": True}, False),
    ],
)
def test_opens_that_no_person_made(name: str, properties: Any, expected: bool) -> None:
    assert judged(name, properties) is expected


@pytest.mark.parametrize(
    "context",
    [
        b'{"userAgent":7}',
        b'{"userAgent":null}',
        b'{"userAgent":"\\ud800"}',
        b'{"userAgentData":[]}',
        b'{"automated":{}}',
        b'{"a":"\\\\"}',
    ],
)
def test_what_cannot_be_read_says_nothing(context: bytes) -> None:
    assert not is_automated("Viewed", context, b"{}")


def test_a_key_may_be_spelled_with_escapes() -> None:
    assert is_automated("Viewed", b'{"user\\u0041gent":"curl/8"}', b"{}")


def test_a_long_user_agent_is_cut() -> None:
    assert not judged(userAgent=CHROME + "x" * automated.AGENT_CHARACTERS_MAX + " curl/8.0")


def test_events_say_so() -> None:
    assert event_of(track(context={"userAgent": "curl/8.0"})).automated
    assert not event_of(track(context={"userAgent": CHROME})).automated
    # What the batch shares counts for each of its events.
    assert event_of(track(), members={"context": {"userAgent": "curl/8.0"}}).automated
