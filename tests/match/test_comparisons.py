"""What was found about pairs is written down, and found again only where something has changed."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from measured import FOUND, evidence, segment

from dedup_lib.match import verify
from dedup_lib.match.alignment import Part
from dedup_lib.match.comparisons import MODULES, find_method, pack_evidence, unpack_evidence
from dedup_lib.match.evidence import Evidence
from dedup_lib.records import Outcome, Recipe, Status, video_key
from dedup_lib.run.ledger import Ledger

RECIPE = Recipe(encoder="pdq", model="pdq", num_frames=3, frame_span="spread", preprocessing=1)
A, B, C = ("https://h/a.mp4", "https://h/b.mp4", "https://h/c.mp4")
KEYS = tuple(map(video_key, (A, B, C)))


@given(found=FOUND)
def test_what_was_found_comes_back(found: Evidence) -> None:
    again = unpack_evidence(pack_evidence(found))
    of_the_list = replace(again, longest_s=found.longest_s, duration_ratio=found.duration_ratio)
    assert pack_evidence(again) == pack_evidence(found)
    assert repr(again.frames) == repr(found.frames) and repr(again.motion) == repr(found.motion)
    assert (of_the_list.score, of_the_list.best[0]) == (found.score, found.best[0])


def test_the_parts_of_a_re_cut_copy_come_back() -> None:
    part = Part(first_start_s=1.0, first_end_s=3.0, second_start_s=5.0, second_end_s=7.5)
    recut = evidence(replace(segment(), further=(part,), correlation=0.5))
    again = unpack_evidence(pack_evidence(recut))
    assert again.frames == recut.frames is not None


@pytest.mark.parametrize("text", ["", "[]", "no JSON", '{"frames":{"agreeing":1}}', '{"unknown":1}', "null"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpack_evidence(text)


def test_a_new_fingerprint_drops_what_was_found_about_its_video(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite", RECIPE) as ledger:
        pairs = [(KEYS[0], KEYS[1], "ab"), (KEYS[1], KEYS[2], "bc"), (KEYS[0], KEYS[2], "ac")]
        ledger.record_comparisons(pairs, method="one")
        assert ledger.load_comparison(KEYS[0], KEYS[1], method="one") == "ab"
        assert ledger.load_comparison(KEYS[0], KEYS[1], method="another") is None, "other code finds other things"
        ledger.record([Outcome(url=B, status=Status.OK)], fingerprints={B: b"new"}, kind="5")
        assert ledger.load_comparison(KEYS[0], KEYS[1], method="one") is None
        assert ledger.load_comparison(KEYS[1], KEYS[2], method="one") is None
        assert ledger.load_comparison(KEYS[0], KEYS[2], method="one") == "ac"


def test_the_method_is_a_short_text() -> None:
    assert 20 < len(find_method()) < 80


def test_every_module_that_compares_is_part_of_the_method() -> None:
    """Else what an older version of it found would be taken for what this one finds."""
    package = Path(verify.__file__).parents[1]

    def imported(path: Path) -> set[Path]:
        names = [
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dedup_lib.")
            for alias in node.names
        ]
        places = [package.joinpath(*name.split(".")[1:]) for name in names]
        found = (file for place in places for file in (place.with_suffix(".py"), place.parent.with_suffix(".py")))
        return {file for file in found if file.is_file()}

    seen, waiting = set(), [Path(str(verify.__file__))]
    while waiting:
        path = waiting.pop()
        if path not in seen and path.parent.name in ("match", "features", "media"):
            seen.add(path)
            waiting += imported(path)
    # The score is made of what is stored, each time anew.
    assert {Path(str(module.__file__)) for module in MODULES} == seen - {package / "match" / "score.py"}
