"""What a long run went through comes onto the page as it was counted, and what went wrong and what is missing too."""

from pathlib import Path

import pytest

import chaos
from chaos import SMALL, chaos_seeds, figures, replayable, share_of, side_by_side
from chaos.figures import BEGIN, END, PAGE, SECTIONS, Figures, fill, read, tables

HOUR = 3600
NOON = 1_700_049_600.0


def ran(kind: str, part: str, seconds: int = HOUR, on: str = "", **counts: int) -> Figures:
    return Figures(kind, part, on, "3.11.7", NOON, seconds, {name.replace("_", " "): n for name, n in counts.items()})


def lines(parts: list[Figures], title: str) -> list[list[str]]:
    """The cells of the table under this title."""
    below = tables(parts).split(f"### {title}\n\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below.split("\n")]


def cells(parts: list[Figures], title: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in lines(parts, title)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where figures are written to; not those of a long run, and as if no seed was named."""
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(chaos, "SEED", None)
    return tmp_path / "figures"


def fails(part: Figures) -> None:
    with part.noted(), replayable(17):
        part.count("inputs", 3)
        raise AssertionError("a fault")


def test_what_is_written_is_read_again(folder: Path) -> None:
    one, other = Figures("hostile", "lines of index, leases and locks"), Figures("model", "redis", "Valkey 9.1.0")
    for part in (one, other):
        for _ in range(2):
            with part.noted():
                part.count("calls", 2)
                part.add({"courses": 1})
    assert read() == [one, other]
    assert one.counts == {"calls": 4, "courses": 2}
    assert {file.suffix for file in folder.iterdir()} == {".json"}


def test_a_part_that_fails_is_written_with_its_seed_and_fails(folder: Path) -> None:
    with pytest.raises(AssertionError, match="a fault"):
        fails(Figures("hostile", "heads"))
    (part,) = read()
    assert part.counts == {"inputs": 3}
    (said,) = part.failed
    assert said.startswith("a fault\nseed 17: ")
    assert cells([part], "Hostile bytes")["heads"][:2] == ["3", "1"]


def test_a_run_that_is_broken_off_has_not_gone_wrong(folder: Path) -> None:
    part = Figures("hostile", "heads")
    part.count("inputs", 3)
    with pytest.raises(KeyboardInterrupt), part.noted():
        raise KeyboardInterrupt
    (part,) = read()
    assert (part.counts, part.failed) == ({"inputs": 3}, [])


def test_a_seed_that_is_replayed_leaves_the_figures_as_they_were(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "SEED", "17")
    with Figures("model", "redis").noted():
        pass
    assert read() == []


def test_a_page_is_filled_between_its_marks_and_nowhere_else() -> None:
    page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
    once = fill(page, [ran("hostile", "heads", inputs=1)])
    assert once.startswith(f"before\n\n{BEGIN}\n\nIt began ")
    assert once.endswith(f"\n\n{END}\n\nafter\n")
    assert "old" not in once
    assert fill(once, [ran("hostile", "heads", inputs=1)]) == once


def test_a_page_without_a_place_is_not_spoilt() -> None:
    with pytest.raises(AssertionError, match="no place"):
        fill("a page", [])


def test_the_page_has_its_place() -> None:
    assert fill(PAGE.read_text(), []).count(BEGIN) == 1


def test_the_first_line_says_when_how_long_and_on_what() -> None:
    late = Figures("model", "redis", "Valkey 9.1.0", "3.11.7", NOON + 1800, HOUR)
    parts = [ran("processes", "mysql", on="MariaDB 10.11.6"), late, ran("hostile", "heads")]
    assert tables(parts).split("\n")[0] == (
        "It began on 2023-11-15 at 12:00 UTC and was over 90 minutes later: "
        "Python 3.11.7, MariaDB 10.11.6, Valkey 9.1.0."
    )


def test_stores_stand_beside_each_other_with_what_befell_them_in_words() -> None:
    parts = [
        ran("processes", "redis", on="Valkey 9.1.0", kill=1200, cuts=9),
        ran("processes", "file", kill=34, go_on=5, seconds=3600),
    ]
    table = lines(parts, "Real processes on real servers")
    assert table[0] == ["store", "File", "Valkey 9.1.0", "in all"]
    assert table[2:] == [
        ["workers killed", "34", "1,200", "1,234"],
        ["connections cut", "0", "9", "9"],
        ["went wrong", "0", "0", "0"],
        ["minutes", "60", "60", "120"],
    ]


def test_attacks_have_a_row_each_and_one_in_all() -> None:
    table = lines(
        [ran("hostile", "heads", 90, inputs=1000), ran("hostile", "new | one", 30, inputs=1)], "Hostile bytes"
    )
    assert table[0] == ["attack", "inputs", "went wrong", "minutes"]
    assert table[2:] == [
        ["heads", "1,000", "0", "1.5"],
        ["new / one", "1", "0", "0.5"],
        ["in all", "1,001", "0", "2.0"],
    ]


def test_what_nobody_named_yet_is_shown_by_its_own_name() -> None:
    table = cells([ran("processes", "file", kill=1, earthquakes=2)], "Real processes on real servers")
    assert table["earthquakes"] == ["2"]


def test_parts_that_are_missing_are_said_to_be() -> None:
    page = tables([ran("hostile", "heads", inputs=1)])
    assert page.count("Not in this run.") == len(SECTIONS) - 1
    assert "There has been none." in tables([])


# Who runs for how long, beside whom


def test_a_test_says_its_share_in_its_mark(request: pytest.FixtureRequest) -> None:
    assert share_of(request.node) == SMALL
    request.node.add_marker(pytest.mark.chaos(share=1 / 8))
    assert share_of(request.node) == 1 / 8


def test_seeds_are_new_ones_until_the_share_of_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(chaos, "SEED", None)
    monkeypatch.setattr(chaos, "MINUTES", 60)
    monkeypatch.setattr("chaos.time.monotonic", lambda: now[0])
    seeds = list[int]()
    for seed in chaos_seeds(share=1 / 60):
        seeds.append(seed)
        now[0] += 25
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
    assert len(list(chaos_seeds(share=0))) == 1


def test_a_seed_that_is_named_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "SEED", "17")
    assert list(chaos_seeds(share=1)) == [17]


def test_nothing_long_waits_behind_what_lasts_the_whole_time() -> None:
    shares = [0, 1, 1, 1 / 8, 1 / 2, 0, 1 / 8]
    assert side_by_side(shares, float) == [1, 0, 1, 0, 1 / 2, 1 / 8, 1 / 8]
    assert side_by_side([0, 1], float) == [1, 0]
