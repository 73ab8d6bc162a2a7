"""Unlike videos that look alike: that they are what they say, and that none of them is removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from accuracy import parse_profile
from click.testing import CliRunner
from lookalikes import COPIES, Lookalike, choose_copies, cut_real_takes, make_family, make_members, measure
from templates import DIFFERENCES, LAYOUTS, MOVEMENTS, SCENE, TEMPLATE, Album, Family, plan_scenes, plan_templates

from dedup_lib.evaluate.edits import Clip
from dedup_lib.evaluate.metrics import Compared, score_groups
from dedup_lib.evaluate.variants import REFERENCE, VARIANTS, load_clip, save_pictures
from dedup_lib.records import Status
from dedup_lib.steps.calibrate import compare_files


def family(layout: str, differs: str, moves: str, *, kind: str = TEMPLATE) -> Family:
    """One that is quickly encoded."""
    numbered = (
        Family(kind=kind, number=number, seed=11, layout=layout, differs=differs, moves=moves) for number in range(40)
    )
    return min(numbered, key=lambda of: of.members * of.duration_s * of.fps * of.size_px[0] * of.size_px[1])


SAMPLE = [
    family("centred", "product", "stripes"),
    family("left", "price", "nothing"),
    family("cover", "language", "equaliser"),
    family("half", "presenter", "zoom"),
    family("left", "photograph", "slide"),
    family("drawn_set", "arms_and_lips", "large", kind=SCENE),
]

REST = [
    family("lower_third", "product", "presenter"),
    family("centred", "variety", "nothing"),
    family("centred", "price", "fade"),
    family("half", "language", "ticker"),
    family("lower_third", "photograph", "zoom"),
    family("photographed_set", "lips", "small", kind=SCENE),
]


def ids(of: Family) -> str:
    return f"{of.layout}-{of.differs}-{of.moves}"


@pytest.mark.parametrize("of", SAMPLE + REST, ids=ids)
def test_members_differ_where_they_should_and_nowhere_else(of: Family) -> None:
    album = Album()
    first, second = (list(of.draw(member, album)) for member in (0, 1))
    assert len(first) == len(second) == round(of.duration_s * of.fps)
    changed_shares = []
    for (one, boxes), (other, other_boxes) in zip(first, second, strict=True):
        assert one.shape == other.shape == (of.size_px[1], of.size_px[0], 3)
        allowed = np.zeros(one.shape[:2], bool)
        for left, top, right, bottom in boxes + other_boxes:
            allowed[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
        difference = np.abs(one.astype(int) - other).max(axis=2)
        assert not difference[~allowed].any()
        changed_shares.append((difference > 40).sum() / max(1, allowed.sum()))
    assert np.median(changed_shares) > (0.0005 if of.kind == SCENE else 0.02)
    assert all(map(np.array_equal, (frame for frame, _ in first), (frame for frame, _ in of.draw(0, album))))


def test_plans_hold_every_combination_and_grow_at_the_end() -> None:
    planned = plan_templates(240, seed=4)
    assert len({(of.layout, of.differs, of.moves) for of in planned}) == 240
    assert {(of.differs, of.moves) for of in planned[:48]} == {(d, m) for d in DIFFERENCES for m in MOVEMENTS}
    assert {of.layout for of in planned[:48]} == set(LAYOUTS)
    assert plan_templates(30, seed=4) == planned[:30] != plan_templates(30, seed=5)
    assert plan_scenes(8, seed=4) == plan_scenes(30, seed=4)[:8]
    assert len({of.name for of in planned}) == 240
    assert {of.members for of in planned} == {3, 4}


def test_files_are_the_same_each_time_and_made_once(tmp_path: Path) -> None:
    of = family("photographed_set", "arms", "small", kind=SCENE)
    once, again = (make_family(of, album=Album(), folder=tmp_path / name) for name in ("once", "again"))
    assert [file.path.read_bytes() for file in once] == [file.path.read_bytes() for file in again]
    assert len({file.path.read_bytes() for file in once}) == len(once) == of.members + 3
    for file in once:
        clip = load_clip(file.path)
        assert abs(clip.duration_s - of.duration_s * (0.9 if file.kind == "trim_10" else 1)) < 0.2
    once[0].path.write_bytes(b"kept")
    once[1].path.unlink()
    make_family(of, album=Album(), folder=tmp_path / "once")
    assert once[0].path.read_bytes() == b"kept"
    assert once[1].path.read_bytes() == again[1].path.read_bytes()


def test_every_kind_of_copy_takes_its_turn() -> None:
    copied = [kind for of in plan_templates(10, seed=0) for _, kind in choose_copies(of)]
    assert {copied.count(kind) for kind in COPIES} == {3}


def test_real_takes_need_a_still_camera_and_movement(tmp_path: Path) -> None:
    still = family("drawn_set", "arms", "large", kind=SCENE)
    person = [frame[::2, ::2] for frame, _ in still.draw(0, Album())]
    other = [frame[::2, ::2] for frame, _ in still.draw(1, Album())]
    clips = {
        "person": person + other,
        "nobody": [person[0]] * 60,
        "twice": person + person,
        "pan": [np.roll(person[0], 4 * shift, axis=1) for shift in range(60)],
        "short": person[:20],
    }
    made = {}
    for number, (name, frames) in enumerate(clips.items()):
        path = tmp_path / f"{name}.mp4"
        save_pictures(path, Clip(frames=tuple(frames)).play(), variant=VARIANTS[REFERENCE])
        made[name] = cut_real_takes(path, number=number, folder=tmp_path / "takes")
        assert cut_real_takes(path, number=number, folder=tmp_path / "takes") == made[name]
    assert [name for name, files in made.items() if files] == ["person"]
    assert [file.member for file in made["person"] if file.kind == REFERENCE] == [0, 1]


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Lookalike], Compared]:
    folder = tmp_path_factory.mktemp("lookalikes")
    files = [file for of in SAMPLE for file in make_members(of, album=Album(), folder=folder)]
    paths = [file.path for file in files]
    return files, compare_files(paths, profile=parse_profile("pdq:3:spread"), workers=2)


@pytest.mark.parametrize("of", SAMPLE, ids=ids)
def test_no_member_of_a_family_is_removed(of: Family, looked_at: tuple[list[Lookalike], Compared]) -> None:
    files, compared = looked_at
    assert {outcome.status for outcome in compared.outcomes} == {Status.OK}
    wrong = score_groups([file.label for file in files], compared.groups).wrong
    assert [pair for pair in wrong if files[pair[0]].family == of] == []


def test_the_command_counts_what_became_of_all_files(tmp_path: Path) -> None:
    arguments = ["--families", "1", "--scenes", "1", "--seed", "141", "--workers", "1"]
    arguments += ["--work", str(tmp_path / "work"), "--results", str(tmp_path)]
    ran = CliRunner().invoke(measure, arguments, env={"VIDEO_CORPUS_DIR": None}, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    saved = (tmp_path / "lookalikes.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in saved
    result = json.loads(saved)["seed 141"]["pdq 3 spread evidence"]
    template, scene = (next(cell for cell in result["cells"] if cell["kind"] == kind) for kind in (TEMPLATE, SCENE))
    planned = plan_templates(1, seed=141)[0], plan_scenes(1, seed=141)[0]
    for cell, of in zip((template, scene), planned, strict=True):
        assert (cell["families"], cell["videos"], cell["copies"]) == (1, of.members, 3)
        assert (cell["moves"], cell["differs"]) == (of.moves, of.differs)
        assert cell["wrong"] + cell["review"] <= cell["pairs"]
        assert cell["found"] + cell["asked"] <= cell["copies"]
    assert sum(cell["wrong"] for cell in result["cells"]) + result["wrong_between_families"] == result["wrong_pairs"]
    assert (result["wrong"] == []) == (result["wrong_pairs"] == 0)
    assert sum(counts["of"] for counts in result["copies"].values()) == 6
    assert result["files"] == sum(of.members + 3 for of in planned)
    assert result["unread"] == {}
