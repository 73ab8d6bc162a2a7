"""The benchmark of accuracy: its arithmetic by hand, its variants, and its commands on clips made here."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from dedup_lib.errors import ListError, SettingError
from dedup_lib.records import Group

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from accuracy import (
    GroupScore,
    Label,
    Profile,
    choose_sources,
    commands,
    load_labels,
    save_results,
    score_groups,
    wilson_interval,
)
from variants import LONGEST_S, RATE, REFERENCE, VARIANTS, Clip, Source, load_clip, make_variants, save_pictures

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
        assert is_edited == (name not in {REFERENCE, "low_bitrate", "vp9", "mpeg4", "speed_105", "speed_125"}), name


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
    long = make_clip(4, duration_s=LONGEST_S + 2, size_px=(640, 64))
    save_pictures(tmp_path / "long.mp4", long.play(), variant=VARIANTS["mpeg4"])
    clip = load_clip(tmp_path / "long.mp4")
    assert (clip.duration_s, clip.frames[0].shape) == (LONGEST_S, (48, 480, 3))


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x18ftypmp42"])
def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(ListError, match=r"broken\.mp4"):
        load_clip(tmp_path / "broken.mp4")


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
    "text", ["pdq", "pdq:x:spread", "pdq:3:middle", "sift:3:spread", "pdq:0:first", "pdq:3:spread:2"]
)
def test_profiles_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingError):
        Profile.parse(text)


def test_profiles_in_words() -> None:
    assert str(Profile.parse("pdq:3:spread")) == "pdq 3 spread"
    assert Profile.parse("pdq:1:first:0.7") == Profile(encoder="pdq", num_frames=1, frame_span="first", threshold=0.7)


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
    output, saved = run("labels", corpus, tmp_path, "--profile", "pdq:3:spread")
    result = saved["labels"]["pdq 3 spread"]
    assert (result["precision"], result["recall"], result["right_pairs"]) == (1.0, 0.3333, 1)
    assert sorted(row["files"] for row in result["missed"]) == [["first.mp4", "mirror.mp4"], ["grey.mp4", "mirror.mp4"]]
    assert (result["wrong"], result["featureless_matched"], result["unread"]) == ([], [], {})
    assert "mirror.mp4" in output and "1 of 3" in output
    _, saved = run("curves", corpus, tmp_path, "--profile", "pdq:2:spread")
    points = saved["curves"]["pdq 2 spread"]
    assert [point["threshold"] for point in points] == sorted(point["threshold"] for point in points)
    assert points[-1]["recall"] <= points[0]["recall"] == 0.3333
    assert "labels" in saved and (tmp_path / "accuracy.png").stat().st_size > 0


def test_variants_are_found_again_or_not(corpus: Path, tmp_path: Path) -> None:
    options = ["--work", str(tmp_path / "work"), "--variants", "grey,mirror", "--profile", "pdq:2:spread"]
    _, saved = run("variants", corpus, tmp_path, *options)
    result = saved["variants"]["pdq 2 spread"]
    assert {name: (v["found"], v["clips"]) for name, v in result["variants"].items()} == {
        "grey": (2, 2),
        "mirror": (0, 2),
    }
    assert (result["clips"], result["precision"], result["wrong"]) == (2, 1.0, [])


def test_an_unknown_variant_is_refused(corpus: Path) -> None:
    result = CliRunner().invoke(commands, ["variants", "--corpus", str(corpus), "--variants", "upside_down"])
    assert result.exit_code == 2 and "upside_down" in result.output and "mirror" in result.output
