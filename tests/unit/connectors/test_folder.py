"""The folder place: the suite of all places, and walls: no links, nothing outside the folder that was opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conosco.connectors.place import Place, PlaceContext, PlaceFailed
from conosco.connectors.places import folder
from conosco.model.problem import Refused
from conosco.testing.conformance.places import PlaceConformance


def context(root: Path | None) -> PlaceContext:
    return PlaceContext(root=root, networks=(), secret=lambda name: None, clock=lambda: 0, scratch=Path("/nonexistent"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "root").mkdir()
    opened = folder.open_place(folder.read_settings({"folder": "crm/in"}), context(tmp_path / "root"))
    yield opened
    opened.close()


class TestFolder(PlaceConformance):
    pass


@pytest.mark.parametrize("name", ["", "/etc", "../out", "a//b", ".ssh", "a/../b", "a\\b", "a/" * 9 + "b"])
def test_a_folder_outside_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        folder.read_settings({"folder": name})


def test_links_are_not_followed(tmp_path: Path, place: Place) -> None:
    inside, secret = tmp_path / "root" / "crm" / "in", tmp_path / "secret"
    secret.write_text("x")
    (inside / "link.csv").symlink_to(secret)
    assert place.list() == []
    with pytest.raises(PlaceFailed):
        place.get("link.csv", tmp_path / "got", 100)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlaceFailed) as failed:
        folder.open_place(folder.read_settings({"folder": "away"}), context(tmp_path / "root"))
    assert failed.value.code == "place_not_allowed"


def test_without_the_administrators_folder_there_is_none() -> None:
    settings: Any = folder.read_settings({"folder": "in"})
    with pytest.raises(PlaceFailed) as failed:
        folder.open_place(settings, context(None))
    assert failed.value.code == "place_not_allowed"
