"""The stream that all benchmarks share: the same for the same seed, of the stated mix, about as compressible as real events."""

import gzip
import hashlib
import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest

from benchmarks.load import batches
from benchmarks.stream import event_of, events, first_events, segments
from conosco.model.moment import DAY, parse_moment
from conosco.rules.catalogue import Catalogue
from conosco.rules.parse import parse_where

START = 1_750_000_000_000_000
SPAN = 20_000_000
COUNT = 20_000
STREAM = tuple(events(1, 5_000, COUNT, START, SPAN))
DECODED = tuple(msgspec.json.decode(raw) for raw in STREAM)


def test_another_process_with_another_hash_seed_makes_the_same_stream() -> None:
    code = (
        "import hashlib; from benchmarks.stream import events, first_events, segments; "
        f"print(hashlib.sha256(b''.join((*first_events(50, {START}), *events(1, 50, 500, {START}, {SPAN})))"
        " + repr(segments(50)).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": "."}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    raws = (*first_events(50, START), *events(1, 50, 500, START, SPAN))
    assert made.stdout.strip() == hashlib.sha256(b"".join(raws) + repr(segments(50)).encode()).hexdigest()


def test_another_seed_makes_another_stream() -> None:
    assert tuple(events(2, 5_000, 100, START, SPAN)) != STREAM[:100]


def test_types_come_in_the_stated_shares() -> None:
    shares = Counter(event["type"] for event in DECODED)
    assert len(DECODED) == COUNT
    assert shares["track"] / COUNT == pytest.approx(0.7, abs=0.015)
    assert shares["page"] / COUNT == pytest.approx(0.2, abs=0.015)
    assert shares["identify"] / COUNT == pytest.approx(0.1, abs=0.015)


def test_one_in_a_hundred_is_sent_twice_and_two_are_late() -> None:
    assert 1 - len({event["messageId"] for event in DECODED}) / COUNT == pytest.approx(0.01, abs=0.004)
    moments = [parse_moment(event["timestamp"]) or 0 for event in DECODED]
    late = [START + SPAN * index // COUNT - at for index, at in enumerate(moments) if at < START]
    assert len(late) / COUNT == pytest.approx(0.02, abs=0.005)
    assert max(late) < DAY + SPAN and all(at <= START + SPAN for at in moments)


def test_some_people_come_far_more_often_than_others() -> None:
    counts = Counter(event["anonymousId"] for event in DECODED).most_common()
    assert counts[0][1] > 10 * counts[len(counts) // 2][1]
    named = sum("userId" in event for event in DECODED) / COUNT
    assert named == pytest.approx(0.4, abs=0.06)


def test_events_are_of_the_stated_size_and_no_easy_prey_for_gzip() -> None:
    assert 850 < sum(map(len, STREAM)) / COUNT < 1_100
    assert 850 < len(event_of(1, "m", START, "Order Completed")) < 1_100
    (body,) = batches(STREAM[:100], 100)
    assert 3 < len(body) / len(gzip.compress(body, 6)) < 8


def test_everybody_is_identified_once_before() -> None:
    first = [msgspec.json.decode(raw) for raw in first_events(200, START)]
    assert [event["type"] for event in first] == ["identify"] * 200
    assert len({event["anonymousId"] for event in first}) == 200


def test_segments_are_conditions_of_the_language() -> None:
    made = segments(50)
    for where in made:
        parse_where({"language": 1, "where": where}, Catalogue())
    text = msgspec.json.encode(made).decode()
    assert text.count('"within"') >= 20 and '"not"' in text and '"trait"' in text
