"""Accuracy: its arithmetic by hand, variants, samples of a list, the proposal of a threshold, and the commands."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from accuracy import choose_sources, commands, load_labels, parse_profile, save_results
from click.testing import CliRunner
from fault_server import FaultServer, Request, reply, reply_range, serve
from hypothesis import given
from hypothesis import strategies as st
from media import save_clip, save_repeats
from notebook_cells import run_cells

from dedup_lib.errors import ListError, RunFolderError, SettingError
from dedup_lib.evaluate.edits import RATE, Clip
from dedup_lib.evaluate.metrics import (
    Compared,
    GroupScore,
    Label,
    pick_pairs,
    rank_pairs,
    score_groups,
    score_variants,
    split_similarities,
    wilson_interval,
)
from dedup_lib.evaluate.threshold import (
    MIN_LOOKALIKES,
    ThresholdResult,
    choose_threshold,
    describe_proposals,
    expected_false_pairs,
    half_of,
    judge_threshold,
    propose_threshold,
    rows_of_half,
)
from dedup_lib.evaluate.variants import (
    MAX_S,
    REFERENCE,
    VARIANTS,
    Source,
    explain_clips,
    load_clip,
    make_variants,
    save_pictures,
)
from dedup_lib.flow.execute import execute_plan
from dedup_lib.flow.notebook import fill_in
from dedup_lib.flow.plan import plan_notebook, plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Group, Outcome, Pair, Status
from dedup_lib.run.folder import thumbnail_path
from dedup_lib.steps.calibrate import Profile, choose_kinds, compare_files, make_labelled_variants, save_params
from dedup_lib.steps.list_sample import ListSample, check_sample, fetch_sample, sample_list

LABELS = [
    Label(file="a1", role="copy", group="a"),
    Label(file="a2", role="copy", group="a"),
    Label(file="a3", role="copy", group="a"),
    Label(file="b1", role="copy", group="b"),
    Label(file="b2", role="copy", group="b"),
    Label(file="lone", role="distinct"),
    Label(file="flat", role="featureless"),
    Label(file="cut", role="excerpt", group="a"),
    Label(file="broken", role="odd"),
]
A1, A2, A3, B1, B2, LONE, FLAT, CUT, BROKEN = range(9)
ROOT = Path(__file__).resolve().parents[2]


def group(kept: int, *copies: int) -> Group:
    return Group(number=1, kept=kept, copies=copies, similarities=(1.0,) * len(copies))


def make_clip(seed: int, *, duration_s: float = 2.0, size_px: tuple[int, int] = (160, 120)) -> Clip:
    """Coloured blobs, large and small, that turn into others."""
    generator = np.random.default_rng(seed)
    start, end = (
        sum(
            cv2.resize(
                generator.uniform(0, 255 / 2, (*size, 3)).astype(np.float32), size_px, interpolation=cv2.INTER_CUBIC
            )
            for size in ((6, 8), (15, 20))
        )
        for _ in range(2)
    )
    shares = np.linspace(0, 1, round(duration_s * RATE))
    return Clip(frames=tuple(np.clip(start * (1 - s) + end * s, 0, 255).astype(np.uint8) for s in shares))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two unlike clips, a grey copy of the first, and a black one."""
    folder = tmp_path_factory.mktemp("corpus")
    videos_dir = folder / "videos"
    first, second = make_clip(1), make_clip(2)
    save_pictures(videos_dir / "first.mp4", first.play(), variant=VARIANTS[REFERENCE])
    save_pictures(videos_dir / "more" / "second.mp4", second.play(), variant=VARIANTS[REFERENCE])
    save_pictures(videos_dir / "third.mp4", make_clip(3).play(), variant=VARIANTS[REFERENCE])
    save_pictures(videos_dir / "grey.mp4", VARIANTS["grey"].edit(first, second), variant=VARIANTS["grey"])
    save_pictures(videos_dir / "mirror.mp4", VARIANTS["mirror"].edit(first, second), variant=VARIANTS["mirror"])
    black = Clip(frames=(np.zeros((120, 160, 3), np.uint8),) * RATE)
    save_pictures(videos_dir / "black.mp4", black.play(), variant=VARIANTS[REFERENCE])
    lines = [
        "file,role,group",
        "first.mp4,copy,one",
        "grey.mp4,copy,one",
        "mirror.mp4,copy,one",
        "more/second.mp4,distinct,",
        "third.mp4,distinct,",
        "black.mp4,featureless,",
    ]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def describe(path: Path) -> tuple[str, int, int, int, float]:
    """Codec, width, height, number of frames, and when the last one is shown."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times_s = [frame.time for frame in container.decode(stream)]
        assert times_s[-1] is not None
        return stream.codec_context.name, stream.width, stream.height, len(times_s), times_s[-1]


def test_interval_of_known_shares() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "total"), [(-1, 4), (5, 4), (0, -1)])
def test_impossible_counts_are_refused(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(successes, total)


def test_pairs_are_right_wrong_or_missed() -> None:
    score = score_groups(LABELS, [group(A1, A2, LONE), group(B1, B2)])
    assert score.right == ((A1, A2), (B1, B2))
    assert score.wrong == ((A1, LONE), (A2, LONE))
    assert score.missed == ((A1, A3), (A2, A3))
    assert score.precision == 0.5
    assert score.precision_interval == wilson_interval(2, 4)
    assert score.recall == 0.5
    assert score.groups == (GroupScore(name="a", pairs=3, found=1), GroupScore(name="b", pairs=1, found=1))
    assert score.mean_group_recall == pytest.approx((1 / 3 + 1) / 2)
    assert score.featureless_matched == ()


def test_pairs_of_odd_files_and_excerpts_stand_apart() -> None:
    score = score_groups(LABELS, [group(A1, CUT, BROKEN)])
    assert (score.right, score.wrong) == ((), ())
    assert score.apart_found == ((A1, CUT), (A1, BROKEN), (CUT, BROKEN))
    assert score.apart_missed == ((A2, CUT), (A3, CUT))
    assert len(score.missed) == 4


def test_a_featureless_file_in_a_group_is_wrong_and_named() -> None:
    score = score_groups(LABELS, [group(B1, FLAT)])
    assert score.wrong == ((B1, FLAT),)
    assert score.featureless_matched == (FLAT,)
    # Beside an odd file it is no wrong pair, but still a match.
    apart = score_groups(LABELS, [group(FLAT, BROKEN)])
    assert (apart.wrong, apart.featureless_matched) == ((), (FLAT,))


def test_a_kept_file_behind_its_copies_counts_the_same() -> None:
    assert score_groups(LABELS, [group(A3, A1, A2)]) == score_groups(LABELS, [group(A1, A2, A3)])


def test_nothing_predicted_and_nothing_labelled() -> None:
    nothing = score_groups(LABELS, [])
    assert (nothing.precision, nothing.recall, nothing.mean_group_recall) == (None, 0.0, 0.0)
    unlabelled = score_groups([Label(file="x", role="distinct")], [])
    assert (unlabelled.precision, unlabelled.recall, unlabelled.mean_group_recall) == (None, None, None)
    assert unlabelled.precision_interval == (0.0, 1.0)


def test_variants_are_what_they_say(corpus: Path, tmp_path: Path) -> None:
    videos_dir = corpus / "videos"
    source = Source(name="first.mp4", path=videos_dir / "first.mp4", other_path=videos_dir / "third.mp4")
    names = ["vp9", "size_30", "letterbox", "trim_end", "speed_125", "foreign_intro"]
    names += ["speed_025", "slides_8", "stalls", "gif", "beside", "in_blur", "recut", "inserted"]
    made = make_variants(source, names=names, work_dir=tmp_path)
    assert list(made) == [REFERENCE, *names]
    facts = {name: describe(path) for name, path in made.items()}
    last_s = float(Fraction(23, RATE))
    assert facts[REFERENCE] == ("h264", 160, 120, 24, pytest.approx(last_s, abs=0.01))
    assert facts["vp9"][0] == "vp9"
    assert facts["size_30"][1:3] == (48, 36)
    assert facts["letterbox"][1:3] == (160, 160)
    assert facts["trim_end"][3] == 17
    assert facts["speed_125"][3:] == (24, pytest.approx(last_s / 1.25, abs=0.01))
    assert facts["foreign_intro"][3:] == (24 + 3 * RATE, pytest.approx(3 + last_s, abs=0.01))
    assert facts["speed_025"][3:] == (24, pytest.approx(last_s / 0.25, abs=0.01))
    assert facts["slides_8"][3:] == (8, pytest.approx(7 * 0.25, abs=0.01))
    assert facts["stalls"][3:] == (24, pytest.approx(last_s, abs=0.01))
    assert facts["gif"][:4] == ("gif", 160, 120, 12)
    assert facts["beside"][1:3] == (320, 120)
    assert facts["in_blur"][1:3] == (160, 284)
    assert facts["inserted"][3:] == (24 + 3 * RATE, pytest.approx(3 + last_s, abs=0.01))
    reference, recut = load_clip(made[REFERENCE]), load_clip(made["recut"])
    assert np.abs(recut.shown_at(1.5).astype(int) - reference.shown_at(0.5)).mean() < 8
    intro, third = load_clip(made["foreign_intro"]), make_clip(3)
    assert np.abs(intro.shown_at(0.5).astype(int) - third.shown_at(0.5)).mean() < 8


def test_every_edit_keeps_one_size_and_rising_times() -> None:
    clip, other = make_clip(1, duration_s=1.0, size_px=(97, 55)), make_clip(2, size_px=(64, 96))
    for name, variant in VARIANTS.items():
        pictures = list(variant.edit(clip, other))
        times_s = [time_s for time_s, _ in pictures]
        assert times_s[0] == 0 and all(np.diff(times_s) > 1e-3), name
        assert {(picture.shape, picture.dtype.name) for _, picture in pictures} == {(pictures[0][1].shape, "uint8")}, (
            name
        )
        again = variant.edit(clip, other)
        assert all(np.array_equal(one, two) for (_, one), (_, two) in zip(pictures, again, strict=True)), name
        unchanged = [picture for _, picture in pictures[: len(clip.frames)]]
        is_edited = len(pictures) != len(clip.frames) or not all(map(np.array_equal, unchanged, clip.frames))
        has_own_pictures = name in {REFERENCE, "low_bitrate", "vp9", "mpeg4", "stalls"} or name.startswith("speed_")
        assert is_edited == (not has_own_pictures), name


def test_variants_are_the_same_each_time_and_made_once(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "videos" / "third.mp4"
    source = Source(name="third.mp4", path=path, other_path=corpus / "videos" / "first.mp4")
    once = make_variants(source, names=["noise", "mpeg4"], work_dir=tmp_path / "once")
    again = make_variants(source, names=["noise", "mpeg4"], work_dir=tmp_path / "again")
    assert [p.read_bytes() for p in once.values()] == [p.read_bytes() for p in again.values()]
    once["noise"].write_bytes(b"kept")
    once["mpeg4"].unlink()
    make_variants(source, names=["noise", "mpeg4"], work_dir=tmp_path / "once")
    assert once["noise"].read_bytes() == b"kept"
    assert once["mpeg4"].read_bytes() == again["mpeg4"].read_bytes()
    assert {p.name for p in once["noise"].parent.iterdir()} == {"reference.mp4", "noise.mp4", "mpeg4.mp4"}


def test_a_long_large_clip_is_cut_and_shrunk(tmp_path: Path) -> None:
    long = make_clip(4, duration_s=MAX_S + 2, size_px=(640, 64))
    save_pictures(tmp_path / "long.mp4", long.play(), variant=VARIANTS["mpeg4"])
    clip = load_clip(tmp_path / "long.mp4")
    assert (clip.duration_s, clip.frames[0].shape) == (MAX_S, (48, 480, 3))


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x18ftypmp42"])
def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(ListError, match=r"broken\.mp4"):
        load_clip(tmp_path / "broken.mp4")


def test_a_clip_with_repeated_frames_can_be_loaded(tmp_path: Path) -> None:
    """As screen recordings in Theora have them."""
    clip = load_clip(save_repeats(tmp_path / "clip.nut", count=40, every=4, until=36))
    # Until the last frame appears, at 3.6 s, and that frame.
    assert len(clip.frames) == math.ceil(3.6 * RATE) + 1


def test_a_title_that_is_no_unicode_stops_no_variant(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip.mp4", metadata={"title": "a title"})
    named = clip.read_bytes()
    clip.write_bytes(named.replace(b"a title", b"\xce title"))
    assert clip.read_bytes() != named
    assert load_clip(clip).frames


def test_a_larger_sample_holds_the_smaller_one(tmp_path: Path) -> None:
    labels = [Label(file=f"{number}.mp4", role="distinct") for number in range(9)]
    few = choose_sources(labels, videos_dir=tmp_path, count=3)
    more = choose_sources(labels[:], videos_dir=tmp_path, count=5)
    assert len(few) == 3 and {s.name for s in few} < {s.name for s in more}
    assert all(source.path != source.other_path for source in more)
    assert len(choose_sources(labels, videos_dir=tmp_path, count=None)) == 9
    with pytest.raises(ListError, match="two clips"):
        choose_sources(labels[:1], videos_dir=tmp_path, count=None)


@pytest.mark.parametrize(
    "text",
    [
        "pdq",
        "pdq:x:spread",
        "pdq:3:middle",
        "sift:3:spread",
        "pdq:0:first",
        "pdq:3:spread:2",
        "pdq:3:spread:nosuch:0.5",
    ],
)
def test_profiles_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingError):
        parse_profile(text)


def test_profiles_in_words() -> None:
    assert str(parse_profile("pdq:3:spread")) == "pdq 3 spread evidence"
    assert str(parse_profile("pdq:3:spread:cosine:0.7")) == "pdq 3 spread cosine at 0.7"
    known = Profile(encoder="pdq", num_frames=1, frame_span="first")
    assert parse_profile("pdq:1:first:0.7") == replace(known, threshold=0.7)
    assert parse_profile("pdq:1:first:cosine") == known.first_frame


@pytest.mark.parametrize(("decide", "parameter"), [("evidence", "min_score"), ("cosine", "cosine_thresh")])
def test_a_threshold_reaches_what_decides(decide: str, parameter: str) -> None:
    profile = parse_profile(f"pdq:3:spread:{decide}:0.7")
    assert profile.threshold_parameter == parameter
    settings = profile.search_settings(run_dir=".").as_record()
    default = replace(profile, threshold=None).search_settings(run_dir=".").as_record()
    assert {name: value for name, value in settings.items() if default[name] != value} == {parameter: 0.7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("file,role\nfirst.mp4,copy\n", "group"),
        ("file,role,group\nfirst.mp4,copies,one\n", "'copies'"),
        ("file,role,group\ngone.mp4,copy,one\n", "gone.mp4"),
    ],
)
def test_labels_that_do_not_do(tmp_path: Path, content: str | None, words: str) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "first.mp4").touch()
    if content is not None:
        (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ListError, match=words):
        load_labels(tmp_path)


def test_results_of_other_profiles_stay(tmp_path: Path) -> None:
    path = tmp_path / "results" / "accuracy.json"
    save_results(path, section="labels", results={"one": 1, "two": 2})
    save_results(path, section="labels", results={"two": 3})
    save_results(path, section="curves", results={"one": 4})
    assert json.loads(path.read_text(encoding="utf-8")) == {"labels": {"one": 1, "two": 3}, "curves": {"one": 4}}


def run(command: str, corpus: Path, results_dir: Path, *options: str) -> tuple[str, Any]:
    """Output of a command, and what it saved."""
    arguments = [command, "--corpus", str(corpus), "--results", str(results_dir), "--workers", "1", *options]
    result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    saved = (results_dir / "accuracy.json").read_text(encoding="utf-8")
    assert str(corpus) not in saved
    return result.output, json.loads(saved)


def test_labelled_clips_are_scored_over_thresholds(corpus: Path, tmp_path: Path) -> None:
    output, saved = run("labels", corpus, tmp_path, "--profile", "pdq:3:spread:cosine")
    result = saved["labels"]["pdq 3 spread cosine"]
    assert (result["precision"], result["recall"], result["right_pairs"]) == (1.0, 0.3333, 1)
    assert sorted(row["files"] for row in result["missed"]) == [["first.mp4", "mirror.mp4"], ["grey.mp4", "mirror.mp4"]]
    assert (result["wrong"], result["featureless_matched"], result["unread"]) == ([], [], {})
    assert "mirror.mp4" in output and "1 of 3" in output
    _, saved = run("curves", corpus, tmp_path, "--profile", "pdq:2:spread:cosine")
    points = saved["curves"]["pdq 2 spread cosine"]
    assert [point["threshold"] for point in points] == sorted(point["threshold"] for point in points)
    assert points[-1]["recall"] <= points[0]["recall"] == 0.3333
    assert "labels" in saved and (tmp_path / "accuracy.png").stat().st_size > 0


def test_variants_are_found_again_or_not(corpus: Path, tmp_path: Path) -> None:
    options = ["--work", str(tmp_path / "work"), "--variants", "grey,mirror", "--profile", "pdq:2:spread:cosine"]
    _, saved = run("variants", corpus, tmp_path, *options)
    result = saved["variants"]["pdq 2 spread cosine"]
    assert {name: (v["found"], v["clips"]) for name, v in result["variants"].items()} == {
        "grey": (2, 2),
        "mirror": (0, 2),
    }
    assert (result["clips"], result["precision"], result["wrong"]) == (2, 1.0, [])


def test_an_unknown_variant_is_refused(corpus: Path) -> None:
    result = CliRunner().invoke(commands, ["variants", "--corpus", str(corpus), "--variants", "upside_down"])
    assert result.exit_code == 2 and "upside_down" in result.output and "mirror" in result.output


# Variants of several clips


def test_the_variants_of_several_clips_come_in_their_order(corpus: Path, tmp_path: Path) -> None:
    sources = choose_sources(load_labels(corpus), videos_dir=corpus / "videos", count=None)
    seen: list[int] = []
    made = make_labelled_variants(sources, kinds=["grey"], work_dir=tmp_path, workers=2, progress=seen.append)
    assert made.kinds == (REFERENCE, "grey") * 2
    assert [label.group for label in made.labels] == [source.name for source in sources for _ in range(2)]
    assert all(path.exists() for path in made.paths)
    assert seen == [1, 1]


def test_a_foreign_start_needs_long_clips(tmp_path: Path) -> None:
    paths = {seconds: tmp_path / f"{seconds}.mp4" for seconds in (5, 7, 8)}
    for seconds, path in paths.items():
        save_pictures(path, make_clip(seconds, duration_s=seconds).play(), variant=VARIANTS[REFERENCE])
    pairs = [(7, 8), (5, 8), (8, 5)]
    sources = [Source(name=f"{a} {b}", path=paths[a], other_path=paths[b]) for a, b in pairs]
    made = make_labelled_variants(sources, kinds=["foreign_intro"], work_dir=tmp_path / "work", workers=2)
    assert [label.group for label in made.labels if "foreign_intro" in label.file] == ["7 8"]


def test_a_clip_without_pictures_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = corpus / "videos" / "first.mp4"
    source = Source(name="https://example.com/broken.mp4?a=/b", path=tmp_path / "broken.mp4", other_path=good)
    with pytest.raises(ListError, match=r"no variants of https://example\.com/broken"):
        make_labelled_variants([source], kinds=["grey"], work_dir=tmp_path / "work", workers=1)


def test_any_name_makes_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    names = ["https://h/" + "ü" * 500 + ".mp4?x=\n\0/..", "..", "\ud800", "plain.mp4"]
    for name in names:
        folder = Source(name=name, path=path, other_path=path).folder(tmp_path / "work")
        assert folder.parent == tmp_path / "work"
        folder.mkdir(parents=True)
    assert Source(name="a/plain.mp4", path=path, other_path=path).folder(tmp_path).name.startswith("plain-")
    secret = Source(name="https://user:secret@h", path=path, other_path=path).folder(tmp_path)
    assert secret.name.startswith("h-")


def test_why_clips_do_not_do(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"<html>")
    videos_dir = corpus / "videos"
    good, page, black = explain_clips(
        [videos_dir / "first.mp4", tmp_path / "page", videos_dir / "black.mp4"], workers=2
    )
    assert good == ""
    assert "cannot be decoded" in page
    assert "one flat colour" in black
    assert explain_clips([], workers=2) == []


def test_kinds_are_known() -> None:
    assert choose_kinds(["mirror", "grey", "mirror"]) == ["mirror", "grey"]
    assert choose_kinds([]) == [name for name in VARIANTS if name != REFERENCE]
    for name in ("upside_down", REFERENCE):
        with pytest.raises(SettingError, match=rf"kinds = '{name}' .*mirror"):
            choose_kinds(["grey", name])


# What the pipeline makes of files


def test_strips_stay_where_a_folder_is_given_and_nothing_is_done_twice(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILVUS_URI", "http://127.0.0.1:9")
    paths = [corpus / "videos" / name for name in ("first.mp4", "grey.mp4", "third.mp4", "black.mp4")]
    profile = parse_profile("pdq:2:spread:cosine")
    done = compare_files(paths, profile=profile, workers=1, folder=tmp_path)
    assert os.environ["MILVUS_URI"] == "http://127.0.0.1:9"
    assert [(group.kept, group.copies) for group in done.groups] == [(0, (1,))]
    assert done.unread == {3}
    assert done.similarity((0, 1)) == done.pairs[0].similarity
    assert done.thumbnails_dir is not None
    assert all(thumbnail_path(str(path), thumbnails_dir=done.thumbnails_dir).exists() for path in paths)
    for strip in done.thumbnails_dir.iterdir():
        strip.unlink()
    assert compare_files(paths, profile=profile, workers=1, folder=tmp_path).pairs == done.pairs
    assert list(done.thumbnails_dir.iterdir()) == []
    # Other settings, in the same folder.
    assert compare_files(paths, profile=profile.first_frame, workers=1, folder=tmp_path).unread == {3}


def test_a_copy_that_does_not_reach_the_threshold_is_asked_about(tmp_path: Path) -> None:
    clip = make_clip(1, duration_s=4.0)
    paths = [tmp_path / f"{name}.mp4" for name in (REFERENCE, "crop_20", "other")]
    save_pictures(paths[0], clip.play(), variant=VARIANTS[REFERENCE])
    save_pictures(paths[1], VARIANTS["crop_20"].edit(clip, clip), variant=VARIANTS["crop_20"])
    save_pictures(paths[2], make_clip(2, duration_s=4.0).play(), variant=VARIANTS[REFERENCE])
    strict, loose = (
        compare_files(paths, profile=parse_profile(f"pdq:2:spread:evidence:{at}"), workers=1) for at in (1.0, 0.3)
    )
    assert (strict.groups, strict.doubtful) == ([], ((0, 1),))
    assert ([(group.kept, group.copies) for group in loose.groups], loose.doubtful) == ([(0, (1,))], ())


def test_a_notebook_that_is_not_there() -> None:
    with pytest.raises(RunFolderError, match=r"99_nothing\.ipynb, .* cannot be read"):
        fill_in("99_nothing", {})


# Thresholds


def pair(first: int, second: int, similarity: float) -> Pair:
    return Pair(first=first, second=second, similarity=similarity)


# Three pairs of copies within a, one within b; the wrong pair comes third.
PAIRS = [pair(A1, A2, 0.9), pair(B1, B2, 0.8), pair(A1, LONE, 0.7), pair(A2, A3, 0.6), pair(A3, B1, 0.5)]
# Among the seven files that count there are 21 pairs.
UNLIKE = 21 - 4


def test_false_pairs_grow_with_the_square() -> None:
    assert expected_false_pairs(1e-4, 10_000) == pytest.approx(4999.5)
    assert expected_false_pairs(0.0, 10_000) == expected_false_pairs(0.5, 1) == 0
    assert expected_false_pairs(1.0, 2) == 1


def test_a_threshold_is_judged() -> None:
    judged = judge_threshold(LABELS, PAIRS, threshold=0.7, collection_size=100)
    assert (judged.right, judged.wrong, judged.labelled, judged.unlike) == (2, 1, 4, UNLIKE)
    assert (judged.precision, judged.recall, judged.false_pair_rate) == (2 / 3, 0.5, 1 / UNLIKE)
    assert judged.precision_interval == wilson_interval(2, 3)
    assert judged.false_pairs == pytest.approx(4950 / UNLIKE)
    assert judged.false_pairs_bound == pytest.approx(4950 * wilson_interval(1, UNLIKE)[1])
    nothing = judge_threshold(LABELS, PAIRS, threshold=0.95, collection_size=100)
    assert (nothing.precision, nothing.recall, nothing.false_pairs) == (None, 0.0, 0.0)
    assert 0 < nothing.false_pairs_bound < 4950


def test_odd_files_and_excerpts_do_not_count() -> None:
    apart = [pair(A1, CUT, 0.99), pair(LONE, BROKEN, 0.99)]
    assert judge_threshold(LABELS, PAIRS + apart, threshold=0.7, collection_size=9) == judge_threshold(
        LABELS, PAIRS, threshold=0.7, collection_size=9
    )


def test_only_some_rows_count_and_unread_ones_are_missed() -> None:
    some = judge_threshold(LABELS, PAIRS, threshold=0.5, collection_size=9, rows={A1, A2, LONE})
    assert (some.right, some.wrong, some.labelled, some.unlike) == (1, 1, 1, 2)
    unread = judge_threshold(LABELS, PAIRS[:2], threshold=0.5, collection_size=9, unread={A3})
    assert (unread.labelled, unread.unlike) == (4, 15 - 2)


def test_an_empty_list_is_judged_too() -> None:
    judged = judge_threshold([], [], threshold=0.5, collection_size=9)
    assert (judged.precision, judged.recall, judged.false_pair_rate, judged.false_pairs) == (None,) * 4
    assert judged.false_pair_rate_bound == 1.0
    assert "could not be tested on two different videos" in judged.in_words()


@pytest.mark.parametrize(("wanted", "threshold"), [(1.0, 0.8), (0.76, 0.8), (0.75, 0.8), (0.6, 0.6), (0.0, 0.6)])
def test_the_loosest_threshold_that_holds(wanted: float, threshold: float) -> None:
    # At 0.7 two of three are right, at 0.6 three of four: 0.75 is reached there, but not at the stricter 0.7.
    found = propose_threshold(LABELS, PAIRS, wanted_precision=wanted, collection_size=9)
    assert found == judge_threshold(LABELS, PAIRS, threshold=threshold, collection_size=9)
    assert found == propose_threshold(LABELS, PAIRS[::-1], wanted_precision=wanted, collection_size=9)


def test_pairs_that_are_equally_alike_go_together() -> None:
    tied = [pair(A1, A2, 0.9), pair(B1, B2, 0.8), pair(A1, LONE, 0.8)]
    assert propose_threshold(LABELS, tied, wanted_precision=0.9, collection_size=9).threshold == 0.9
    assert propose_threshold(LABELS, tied, wanted_precision=0.6, collection_size=9).threshold == 0.8


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no pair of copies was found"),
        ([pair(A1, LONE, 0.9)], "no pair of copies was found"),
        ([pair(A1, LONE, 0.9), pair(A1, A2, 0.8)], r"similarity 0\.9000, and only 0 of 1 pairs"),
        ([pair(A1, LONE, 0.9), pair(A1, A2, 0.9)], r"similarity 0\.9000, and only 0 of 1 pairs"),
    ],
)
def test_a_precision_that_no_threshold_reaches(pairs: list[Pair], words: str) -> None:
    with pytest.raises(SettingError, match=rf"wanted_precision = 0\.995 .*{words}"):
        propose_threshold(LABELS, pairs, wanted_precision=0.995, collection_size=9)


@st.composite
def labelled_pairs(draw: st.DrawFn) -> tuple[list[Label], list[Pair]]:
    groups = draw(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=2, max_size=9))
    labels = [Label(file=str(row), role="copy" if name else "distinct", group=name) for row, name in enumerate(groups)]
    rows = st.tuples(st.integers(0, len(groups) - 1), st.integers(0, len(groups) - 1)).filter(lambda r: r[0] < r[1])
    chosen = draw(st.lists(rows, unique=True, max_size=20))
    levels = st.integers(1, 8).map(lambda level: level / 8)
    return labels, [pair(first, second, draw(levels)) for first, second in chosen]


@given(known=labelled_pairs(), wanted=st.sampled_from([0.0, 0.3, 0.5, 0.75, 0.9, 1.0]))
def test_a_proposal_holds_and_nothing_looser_does(known: tuple[list[Label], list[Pair]], wanted: float) -> None:
    labels, pairs = known
    judged = {
        threshold: judge_threshold(labels, pairs, threshold=threshold, collection_size=9)
        for threshold in sorted({pair.similarity for pair in pairs}, reverse=True)
    }
    holding = []
    for threshold, one in judged.items():
        assert one.precision is not None
        if one.precision < wanted:
            break
        holding.append(threshold)
    best = max((judged[threshold].right for threshold in holding), default=0)
    if not best:
        with pytest.raises(SettingError):
            propose_threshold(labels, pairs, wanted_precision=wanted, collection_size=9)
        return
    found = propose_threshold(labels, pairs, wanted_precision=wanted, collection_size=9)
    assert found.threshold in holding
    assert found.right == best


@given(known=labelled_pairs())
def test_more_precision_is_never_a_looser_threshold(known: tuple[list[Label], list[Pair]]) -> None:
    labels, pairs = known
    found: list[ThresholdResult] = []
    for wanted in (0.0, 0.25, 0.5, 0.8, 0.95, 1.0):
        try:
            found.append(propose_threshold(labels, pairs, wanted_precision=wanted, collection_size=9))
        except SettingError:
            break
    assert [one.threshold for one in found] == sorted(one.threshold for one in found)
    assert [one.right for one in found] == sorted((one.right for one in found), reverse=True)


def test_halves_of_names() -> None:
    names = [f"clip {number}" for number in range(200)]
    assert [half_of(name) for name in names] == [half_of(name) for name in names]
    assert {half_of("a"), half_of("\ud800"), half_of("")} <= {0, 1}
    assert 70 < sum(map(half_of, names)) < 130
    assert rows_of_half(LABELS, 0) | rows_of_half(LABELS, 1) == set(range(len(LABELS)))
    assert not rows_of_half(LABELS, 0) & rows_of_half(LABELS, 1)
    assert {A1, A2, A3, CUT} <= rows_of_half(LABELS, half_of("a"))


def compared(pairs: list[Pair], *, threshold: float = 0.65, labels: list[Label] = LABELS) -> Compared:
    return Compared(
        threshold=threshold,
        sweep=(0.5, threshold),
        outcomes=tuple(
            Outcome(url=label.file, status=Status.FEATURELESS if label.role == "featureless" else Status.OK)
            for label in labels
        ),
        pairs=tuple(pairs),
    )


def twins(*halves: int) -> list[Label]:
    """Two copies of each of so many clips, which lie in these halves."""
    numbers = count()
    names = [next(name for number in numbers if half_of(name := f"clip {number}") == half) for half in halves]
    return [Label(file=f"{name} {place}", role="copy", group=name) for name in names for place in range(2)]


def choose(
    labels: list[Label], pairs: list[Pair], *, in_use: float = 0.65
) -> tuple[ThresholdResult, ThresholdResult, ThresholdResult]:
    known = compared(pairs, threshold=in_use, labels=labels)
    return choose_threshold(labels, known, wanted_precision=0.9, collection_size=1000)


def test_one_half_chooses_and_the_other_reports() -> None:
    labels = twins(0, 1, 0)
    # A wrong pair of the half that chooses lies above the threshold in use.
    pairs = [pair(0, 1, 0.8), pair(0, 2, 0.79), pair(2, 3, 0.7), pair(0, 4, 0.66), pair(4, 5, 0.9)]
    chosen, reported, before = choose(labels, pairs)
    assert (chosen.threshold, chosen.recall, chosen.precision) == (0.8, 1.0, 1.0)
    # The copies of the other half lie below what the first half chose.
    assert (reported.threshold, reported.recall, before.threshold, before.recall) == (0.8, 0.0, 0.65, 1.0)
    table = describe_proposals({"chosen": chosen, "reported": reported})
    assert list(table) == ["chosen", "reported"]
    assert table["chosen"]["pairs of copies in one group"] == "2 of 2"
    assert table["reported"]["precision"] == "–"
    assert table.loc["false pairs among 1,000", "reported"] == "–"


def test_nothing_stricter_is_proposed_in_vain() -> None:
    labels, copies = twins(0, 1, 0), [pair(0, 1, 0.8), pair(2, 3, 0.7), pair(4, 5, 0.9)]
    for wrong in ([], [pair(0, 2, 0.75)], [pair(0, 4, 0.64)]):
        # No wrong pair, one between the halves, or one that the threshold in use leaves out already.
        chosen, reported, before = choose(labels, copies + wrong)
        assert chosen.threshold == 0.65
        assert reported == before


def test_what_cannot_be_tested_is_not_proposed() -> None:
    labels, pairs = twins(0, 0), [pair(0, 1, 0.9), pair(2, 3, 0.9), pair(0, 2, 0.8)]
    chosen, reported, _ = choose(labels, pairs)
    assert chosen.threshold == 0.65
    assert reported.warn(used=2).startswith("The sample is small: 2 videos were used, and none was left to test a")


@pytest.mark.parametrize(("lookalikes", "proposed"), [(MIN_LOOKALIKES, 0.8), (MIN_LOOKALIKES - 1, 0.85)])
def test_a_looser_one_is_proposed_where_lookalikes_show_that_it_is_safe(lookalikes: int, proposed: float) -> None:
    labels = twins(*([0] * 12), 1)
    copies = [pair(2 * clip, 2 * clip + 1, 0.8) for clip in range(12)]
    unlike = [pair(0, row, 0.5) for row in range(2, 2 + lookalikes)]
    assert choose(labels, copies + unlike, in_use=0.85)[0].threshold == proposed


def test_recall_is_that_of_the_groups() -> None:
    labels = [Label(file=str(row), role="copy", group="a") for row in range(4)]
    pairs = [pair(0, 1, 0.9), pair(0, 2, 0.9)]
    judged = judge_threshold(labels, pairs, threshold=0.65, collection_size=9)
    score = score_groups(labels, compared(pairs, labels=labels).groups)
    # Of six pairs two match; a third comes into their group.
    assert (judged.right, judged.found, judged.recall) == (2, 3, score.recall) == (2, 3, 0.5)
    assert (judged.videos, judged.whole) == (1, 0)
    assert (found := judge_threshold(labels, [*pairs, pair(0, 3, 0.7)], threshold=0.65, collection_size=9)).whole == 1
    assert found.recall == 1.0


def test_a_small_sample_is_warned_of() -> None:
    _, reported, _ = choose(twins(0, 1, 0, 1), [pair(0, 1, 0.8), pair(2, 3, 0.7), pair(4, 5, 0.9)])
    assert reported.warn(used=10) == ""
    warning = reported.warn(used=4)
    low, high = wilson_interval(1, 2)
    assert "4 videos were used, 2 of them to test" in warning and "All copies of 1 of these 2 were found" in warning
    assert f"as low as {low:.1%} or as high as {high:.1%} (95 % Wilson interval: {low:.3f} to {high:.3f})" in warning
    assert "sample_size to 10" in warning


def test_pairs_are_ranked_and_picked() -> None:
    known = compared(PAIRS)
    assert rank_pairs([(A1, A3), (A2, A3), (A1, A2)], known) == [((A1, A2), 0.9), ((A2, A3), 0.6), ((A1, A3), None)]
    assert pick_pairs([(A1, A3), (A2, A3), (A1, A2), (A1, LONE)], labels=LABELS, compared=known) == [
        ((A1, A2), 0.9),
        ((A1, LONE), 0.7),
    ]


def test_similarities_of_copies_and_of_others() -> None:
    copies, unlike = split_similarities(LABELS, compared(PAIRS))
    assert sorted(copies[np.isfinite(copies)]) == [0.6, 0.8, 0.9]
    assert sorted(unlike[np.isfinite(unlike)]) == [0.5, 0.7]
    # Without the featureless file, which was compared with nothing.
    assert (len(copies), len(unlike)) == (4, 15 - 4)


def test_variants_too_unlike_to_be_scored_have_no_median() -> None:
    labels = [Label(file=str(row), role="copy", group=name) for row, name in enumerate("aabbcc")]
    kinds = [REFERENCE, "grey", "grey", REFERENCE, REFERENCE, "grey"]
    (grey,) = score_variants(
        labels, kinds, compared([pair(0, 1, 0.9), pair(2, 3, 0.6)], labels=labels), reference=REFERENCE
    )
    assert (grey.found, grey.clips, grey.similarities, grey.median_similarity) == (1, 3, (0.9, 0.6, None), 0.6)
    (grey,) = score_variants(labels, kinds, compared([], labels=labels), reference=REFERENCE)
    assert (grey.recall, grey.median_similarity) == (0.0, None)


def test_a_proposal_in_words() -> None:
    words = replace(PROPOSAL, threshold=0.8, wrong=1).in_words()
    assert "At 0.8000, 45.0% of the pairs of copies" in words
    assert "precision of 90.0%" in words
    assert "49,995 false pairs" in words


# Samples of a list


URLS = [f"https://example.com/{number}.mp4" for number in range(50)]


def test_a_sample_is_the_same_each_time() -> None:
    few = sample_list(URLS, count=6, seed=1)
    assert few == sample_list(URLS, count=6, seed=1) == [url for url in URLS if url in few]
    assert set(few) == set(sample_list(URLS[::-1] + URLS, count=6, seed=1))
    assert set(few) < set(sample_list(URLS, count=9, seed=1))
    assert few != sample_list(URLS, count=6, seed=2)
    assert sum(map(half_of, few)) == 3
    assert sample_list(URLS, count=1000, seed=0) == URLS
    assert sample_list(["", "  ", "b", "b", "a"], count=9, seed=0) == ["b", "a"]
    assert sample_list([], count=9, seed=0) == []
    assert sample_list(["\ud800"], count=1, seed=0) == ["\ud800"]


def test_what_is_left_out_is_not_sampled() -> None:
    few = sample_list(URLS, count=6, seed=1)
    others = sample_list(URLS, count=6, seed=1, leave_out=few[:1])
    assert few[0] not in others and len(others) == 6
    kept = URLS[:9]
    assert set(sample_list(URLS, count=99, seed=1, leave_out=[URLS[0], URLS[20]], kept=kept)) == set(kept[1:])
    with pytest.raises(SettingError, match=r"leave_out = 'nosuch' .* not a URL of the list"):
        sample_list(URLS, count=6, seed=1, leave_out=["nosuch"])


LIMITS = FetchLimits(timeout_s=20, max_bytes=200_000, allow_private_addresses=True, allow_local_paths=True)


def answer(request: Request) -> list[bytes]:
    match request.path:
        case "/good.mp4":
            return [reply_range(request, b"g" * 150_000)]
        case "/whole.mp4":
            return [reply("200 OK", b"w" * 1000)]
        case "/large.mp4":
            return [reply_range(request, b"l" * 900_000)]
        case "/cut.mp4":
            return [reply("200 OK", b"c" * 10, Content_Length=1000)]
    return [reply("404 Not Found")]


def test_a_sample_is_fetched_once_and_failures_are_listed(tmp_path: Path) -> None:
    local = tmp_path / "local.mp4"
    local.write_bytes(b"here")
    with FaultServer(answer) as server:
        good, whole, large, cut, gone = (
            server.url(f"/{name}.mp4") for name in ("good", "whole", "large", "cut", "gone")
        )
        urls = [good, str(local), large, str(tmp_path / "nowhere.mp4"), whole, gone, cut, "ftp://h/x.mp4", ""]
        seen: list[int] = []
        folder = tmp_path / "videos"
        sample = fetch_sample(urls, folder=folder, limits=LIMITS, workers=3, progress=seen.append)
        assert list(sample.paths) == [good, str(local), whole]
        assert sample.paths[good].read_bytes() == b"g" * 150_000
        assert sample.paths[whole].read_bytes() == b"w" * 1000
        assert sample.paths[str(local)] == local
        assert {url: reason.partition(":")[0] for url, reason in sample.failures.items()} == {
            large: "too_large",
            str(tmp_path / "nowhere.mp4"): "invalid_url",
            gone: "http_error",
            cut: "unreachable",
            "ftp://h/x.mp4": "invalid_url",
            "": "invalid_url",
        }
        assert sum(seen) == len(urls)
        assert sorted(folder.iterdir()) == sorted([sample.paths[good], sample.paths[whole]])
        asked = len(server.requests)
        assert fetch_sample([good, whole], folder=folder, limits=LIMITS, workers=1).failures == {}
        assert len(server.requests) == asked
        table = sample.as_table()
        assert table["url"].tolist() == [*sample.paths, *sample.failures]
        assert set(table["used"]) == {"yes", "no"}


def test_private_addresses_are_not_fetched_unasked(tmp_path: Path) -> None:
    limits = FetchLimits(timeout_s=20, max_bytes=200_000)
    with FaultServer(answer) as server:
        sample = fetch_sample([server.url("/good.mp4")], folder=tmp_path, limits=limits, workers=1)
        assert "blocked_address" in sample.failures[server.url("/good.mp4")]
        assert server.requests == []


def test_no_url_leads_a_sample_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "videos"
    with FaultServer(serve(b"no video")) as server:
        urls = [server.url(path) for path in ("/../../x", "/%2e%2e%2f..%2fx", "/a/", f"/{'x' * 300}", "/.x?/../../y")]
        sample = fetch_sample(urls, folder=folder, limits=LIMITS, workers=2)
    assert set(sample.paths) == set(urls)
    assert {path.parent for path in sample.paths.values()} == {folder}
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(sample.paths.values())


def test_a_sample_that_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"cannot write .*videos: Not a directory"):
        fetch_sample(["x.mp4"], folder=tmp_path / "file" / "videos", limits=LIMITS, workers=1)


def test_what_cannot_be_copied_is_left_out_of_a_sample(corpus: Path, tmp_path: Path) -> None:
    videos_dir = corpus / "videos"
    (tmp_path / "page").write_bytes(b"<html>")
    (tmp_path / "again").write_bytes((videos_dir / "first.mp4").read_bytes())
    paths = {
        "a": videos_dir / "first.mp4",
        "b": tmp_path / "page",
        "c": tmp_path / "again",
        "d": videos_dir / "black.mp4",
        "e": videos_dir / "third.mp4",
    }
    sample = check_sample(ListSample(paths=paths, failures={"f": "gone"}), workers=2)
    assert list(sample.paths) == ["a", "e"]
    assert sample.failures["f"] == "gone"
    assert sample.failures["c"] == "the same file as a"
    assert "decoded" in sample.failures["b"] and "flat" in sample.failures["d"]
    assert [(source.name, source.other_path) for source in sample.sources()] == [("a", paths["e"]), ("e", paths["a"])]
    with pytest.raises(ListError, match="1 of the 2 sampled"):
        ListSample(paths={"a": paths["a"]}, failures={"b": "gone"}).sources()


# The params file

PROPOSAL = ThresholdResult(
    threshold=0.8125, right=9, wrong=0, labelled=20, unlike=1000, collection_size=10_000, found=9, videos=4, whole=2
)


def save(path: Path, *, measured_on: str = "3 videos", encoder: str = "pdq") -> Any:
    profile = Profile(encoder=encoder, num_frames=5, frame_span="spread")
    return save_params(path, profile=profile, chosen=PROPOSAL, reported=PROPOSAL, measured_on=measured_on)


def test_the_params_file_is_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.yaml"
    values = save(path, measured_on="3 videos of ünï\n\x00\u2028key: value.csv")
    assert load_profile(str(path)) == values
    assert (values["decide"], values["min_score"], values["num_frames"]) == ("evidence", 0.8125, 5)
    text = path.read_text(encoding="utf-8")
    assert "10,000 videos" in text and "ünï" in text
    save(path, encoder="clip")
    assert load_profile(str(path))["encoder"] == "clip"
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", ["run_dir: outputs/x\ncosine_thresh: 0.9\n", "- a\n", "a: [", "\udcff", ""])
def test_other_settings_are_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(SettingError, match=r"params_yaml = .*name a new one"):
        save(path)
    assert path.read_bytes() == before


# The notebook


@pytest.fixture(scope="module")
def own_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of three clips, two of one half and one of the other, a page, and a file that is not there."""
    folder = tmp_path_factory.mktemp("own")
    paths = []
    for seed, half in enumerate((0, 1, 0)):
        path = next(p for number in count() if half_of(str(p := folder / f"{seed}-{number}.mp4")) == half)
        save_pictures(path, make_clip(seed).play(), variant=VARIANTS[REFERENCE])
        paths.append(path)
    (folder / "page.mp4").write_bytes(b"<html>")
    paths += [folder / "page.mp4", folder / "nowhere.mp4"]
    (folder / "own.csv").write_text("link\n" + "\n".join(map(str, paths)) + "\n", encoding="utf-8")
    return folder / "own.csv"


def test_the_notebook_proposes_a_threshold(own_list: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    given = {"input_csv": str(own_list), "run_dir": str(run_dir), "kinds": ["grey", "mirror"], "workers": 2}
    given |= {"collection_size": 5000, "allow_local_paths": True}
    execute_plan(plan_notebook("07_calibrate", load_profile("direct") | given))
    values = load_profile(str(run_dir / "calibrated.yaml"))
    assert 0 < values["min_score"] <= 1
    assert "3 videos of own.csv" in (run_dir / "calibrated.yaml").read_text(encoding="utf-8")
    record = json.loads((run_dir / "stages" / "07_calibrate.json").read_text(encoding="utf-8"))
    assert record["counts"] == {"sampled": 5, "used": 3, "files": 9}
    assert record["threshold"] == values["min_score"]
    page = (run_dir / "reports" / "07_calibrate.html").read_text(encoding="utf-8")
    assert "5,000" in page and "no such file" in page
    # Of three videos no false pair is known, so that nothing speaks for a stricter threshold than the default.
    assert values["min_score"] <= 0.5
    profile = " ".join((run_dir / "calibrated.yaml").read_text(encoding="utf-8").split("\n# "))
    for text in (page, profile, record["warning"]):
        assert "The sample is small: 3 videos were used, 1 of them to test the threshold." in text
        assert "95 % Wilson interval: 0.207 to 1.000" in text
    # It leaves a profile.
    planned = plan_notebook("06_search_and_clean", values | {"run_dir": str(run_dir)})
    assert planned.parameters["06_search_and_clean"] == {
        "run_dir": str(run_dir),
        "decide": "evidence",
        "min_score": values["min_score"],
    }


def test_the_command_samples_the_clean_list_and_holds_on_to_the_threshold_in_use(
    own_list: Path, tmp_path: Path
) -> None:
    """What 06 found to be a copy is not sampled, and its threshold is the one to beat."""
    paths = own_list.read_text(encoding="utf-8").split()[1:4]
    copies = [tmp_path / f"copy{number}.mp4" for number in range(3)]
    for path, copy in zip(paths, copies, strict=True):
        shutil.copy(path, copy)
    listed = tmp_path / "doubled.csv"
    listed.write_text("link\n" + "\n".join(map(str, [*paths, *copies])) + "\n", encoding="utf-8")
    run_dir = tmp_path / "run"
    given = {"input_csv": str(listed), "run_dir": str(run_dir), "allow_local_paths": True, "min_score": 0.2}
    given |= {"encoder": "pdq"}
    run_cells(plan_run(load_profile("direct") | given))
    final = (run_dir / "FINAL_RESULT.csv").read_text(encoding="utf-8").split()[1:]
    assert len(final) == 3
    given |= {"kinds": "[grey]", "workers": 2, "leave_out": f"[{copies[0]}]"}
    sets = [f"--set={name}={value}" for name, value in given.items() if name != "min_score"]
    done = subprocess.run(
        [sys.executable, "-m", "dedup_lib", "calibrate", "direct", *sets],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "1000"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning: The sample is small" in done.stdout
    record = json.loads((run_dir / "stages" / "07_calibrate.json").read_text(encoding="utf-8"))
    assert record["counts"]["sampled"] == 3 - (str(copies[0]) in final)
    assert record["threshold"] <= 0.2
    assert "of the 3 rows of the clean list are sampled; the list has 6" in (
        run_dir / "reports" / "07_calibrate.html"
    ).read_text(encoding="utf-8")


def test_the_notebook_says_what_it_lacks(own_list: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    given = {
        "input_csv": str(own_list),
        "run_dir": str(run_dir),
        "encoder": "pdq",
        "kinds": ["mirror"],
        "decide": "cosine",
    }
    given |= {"allow_local_paths": True}
    with pytest.raises(SettingError, match=r"wanted_precision = 0\.995 .*no pair of copies was found"):
        run_cells(plan_notebook("07_calibrate", given))
