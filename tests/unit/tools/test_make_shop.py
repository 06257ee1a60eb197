"""The tool that writes the shop for benchmarks: the same arguments give the same bytes, and nothing is left out."""

import json
from pathlib import Path

from conosco.cli.shop.past import Plan
from conosco.model.moment import DAY, SECOND
from tools.make_shop import make

PLAN = Plan(end=1_790_000_000 * SECOND // DAY * DAY, seed=2, people=60, days=60)


def test_the_files_hold_every_message(tmp_path: Path) -> None:
    count, _ = make(tmp_path / "a", PLAN)
    again, _ = make(tmp_path / "b", PLAN)
    assert count == again > 100
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    bodies = [line for path in (tmp_path / "a").glob("*.jsonl") if path.stem != "truth" for line in path.read_text().splitlines()]
    assert sum(len(json.loads(body)["batch"]) for body in bodies) == count
    books = json.loads((tmp_path / "a" / "truth.jsonl").read_text().splitlines()[-1])["books"]
    assert books["messages"] == count
