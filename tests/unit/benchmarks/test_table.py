"""Result tables: what stands between the marks is replaced, and nothing else."""

from pathlib import Path

import pytest

from benchmarks.table import BEGIN, END, rewrite

ROOT = Path(__file__).parents[3]


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# method\n\n{BEGIN}\nold\n{END}\n\n## after\n")
    for figure in ("1", "2"):
        rewrite(tmp_path, ["what", "figure"], [["events/s", figure]], ["A note."])
    text = readme.read_text()
    assert text.startswith(f"# method\n\n{BEGIN}\n") and text.endswith(f"{END}\n\n## after\n")
    assert "| what | figure |\n| --- | --- |\n| events/s | 2 |\n\nA note.\n" in text
    assert "old" not in text and "| 1 |" not in text and text.count(BEGIN) == text.count(END) == 1
    assert "| events/s | 2 |" in capsys.readouterr().out


@pytest.mark.parametrize("readme", sorted((ROOT / "benchmarks").glob("*/README.md")), ids=lambda path: path.parent.name)
def test_every_benchmark_has_a_page_with_marks_and_a_command(readme: Path) -> None:
    text = readme.read_text()
    assert text.count(BEGIN) == 1 and text.count(END) == 1 and text.index(BEGIN) < text.index(END)
    assert f"`make bench {readme.parent.name}`" in text
    assert (readme.parent / "__main__.py").exists()
