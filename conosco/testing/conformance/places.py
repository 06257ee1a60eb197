"""What every place must do, whatever stands behind it. A subclass gives an open place on an empty folder."""

from hashlib import sha256
from pathlib import Path

import pytest

from conosco.connectors.place import Place, PlaceFailed

NAMES = ("orders-1.csv", "żółć è.csv", 'quote" and back.csv', "[a]*?.csv", "two  blanks.csv")


class PlaceConformance:
    """The suite."""

    def test_an_empty_place_has_no_files(self, place: Place) -> None:
        assert place.list() == []

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_put_is_listed_and_fetched(self, place: Place, tmp_path: Path, name: str) -> None:
        body = bytes(range(256)) * 300
        (tmp_path / "given").write_bytes(body)
        place.put(tmp_path / "given", name)
        assert [(entry.name, entry.bytes) for entry in place.list()] == [(name, len(body))]
        assert place.get(name, tmp_path / "got", len(body)) == sha256(body).hexdigest()
        assert (tmp_path / "got").read_bytes() == body

    def test_a_file_is_replaced_whole_and_moved_and_deleted(self, place: Place, tmp_path: Path) -> None:
        for text in ("first", "second, longer"):
            (tmp_path / "given").write_text(text)
            place.put(tmp_path / "given", "a.csv")
        assert [entry.bytes for entry in place.list()] == [len("second, longer")]
        place.move("a.csv", "done", "b.csv")
        assert place.list() == []
        place.put(tmp_path / "given", "c.csv")
        place.delete("c.csv")
        place.delete("c.csv")
        assert place.list() == []

    def test_what_is_too_large_or_gone_leaves_nothing(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "given").write_bytes(b"x" * 1_000)
        place.put(tmp_path / "given", "a.csv")
        with pytest.raises(PlaceFailed) as failed:
            place.get("a.csv", tmp_path / "got", 999)
        assert failed.value.code == "file_too_large"
        with pytest.raises(PlaceFailed) as failed:
            place.get("b.csv", tmp_path / "got", 999)
        assert failed.value.code == "file_vanished"
        with pytest.raises(PlaceFailed) as failed:
            place.move("b.csv", "done", "b.csv")
        assert failed.value.code == "file_vanished"
        assert not (tmp_path / "got").exists()

    def test_hidden_files_are_not_listed(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "given").write_text("x")
        place.put(tmp_path / "given", ".hidden")
        assert place.list() == []
