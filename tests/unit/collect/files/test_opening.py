"""What a file is by its bytes, and how its text is encoded."""

import gzip
from pathlib import Path

import pytest

from conosco.collect.files.opening import content, detect_encoding, kind_of_file
from conosco.model.problem import Refused

POLISH = "imię;nazwisko;miasto\nŻaneta;Źrebiec;Łódź\nŚwiętosława;Ćma;Gdańsk\n"
ITALIAN = "nome;città;perché\nNiccolò;Forlì;così è più\n"
PORTUGUESE = "nome;situação;endereço\nJoão;não;São José\nConceição;à mão;Évora\n"


def encoding_of(folder: Path, body: bytes) -> tuple[str, tuple[str, ...]]:
    path = folder / "file"
    path.write_bytes(body)
    with path.open("rb") as file:
        return detect_encoding(content(file, len(body), False))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (ITALIAN, "cp1252"),
        (PORTUGUESE, "cp1252"),
        (POLISH, "utf-8"),
        (PORTUGUESE, "utf-8"),
        (ITALIAN, "utf-16-le"),
        (POLISH, "utf-16-be"),
    ],
)
def test_the_encoding_is_found(tmp_path: Path, text: str, encoding: str) -> None:
    found, rivals = encoding_of(tmp_path, text.encode(encoding))
    assert text.encode(encoding).decode(found) == text
    assert rivals == ()


@pytest.mark.parametrize(
    ("bom", "encoding"), [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")]
)
def test_a_mark_decides(tmp_path: Path, bom: bytes, encoding: str) -> None:
    assert encoding_of(tmp_path, bom + ITALIAN.encode(encoding)) == (encoding, ())


def test_one_late_letter_decides_for_the_whole_file(tmp_path: Path) -> None:
    body = b"name;city\n" + b"anna;roma\n" * 400_000
    assert encoding_of(tmp_path, body + "zoë;forlì\n".encode("cp1252"))[0] == "cp1252"
    assert encoding_of(tmp_path, body + "zoë;forlì\n".encode())[0] == "utf-8"


def test_letters_that_are_the_same_everywhere_need_no_question(tmp_path: Path) -> None:
    found, rivals = encoding_of(tmp_path, "Kraków;Jiménez\n".encode("cp1252"))
    assert "Kraków;Jiménez\n".encode("cp1252").decode(found) == "Kraków;Jiménez\n"
    assert rivals == ()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"a,b\n1,2\n", "csv"),
        (b'{"a": 1}\n', "jsonl"),
        (b'\xef\xbb\xbf{"a": 1}\n', "jsonl"),
        (b"PK\x03\x04...", "xlsx"),
        (b"PAR1....", "parquet"),
        ("a;b\n1;2\n".encode("utf-16"), "csv"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_kind_is_told_by_the_bytes(tmp_path: Path, body: bytes, kind: str, compressed: bool) -> None:
    path = tmp_path / "misleading.txt"
    path.write_bytes(gzip.compress(body) if compressed else body)
    with path.open("rb") as file:
        assert kind_of_file(file, path.stat().st_size) == (kind, compressed)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "file_empty"),
        (b" \r\n", "file_empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "file_kind_unknown"),
        (gzip.compress(gzip.compress(b"a,b")), "file_is_a_bomb"),
        (gzip.compress(b"".join(b"a,%d\n" % number for number in range(10_000)))[:-200], "file_damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, body: bytes, code: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(body)
    with path.open("rb") as file, pytest.raises(Refused) as refused:
        kind_of_file(file, len(body))
        content(file, len(body), True).read()
    assert refused.value.problems[0].code == code


def test_a_file_that_grows_without_end_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(80):
            file.write(bytes(1 << 20))
    with path.open("rb") as opened, pytest.raises(Refused) as refused:
        stream = content(opened, path.stat().st_size, True)
        while stream.read(1 << 20):
            pass
    assert refused.value.problems[0].code == "file_is_a_bomb"
