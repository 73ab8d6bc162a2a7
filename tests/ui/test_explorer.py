"""The threshold slider of 06."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from storyboards import save_storyboard

from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.sweep import count_scores
from dedup_lib.groups.thresholds import count_sweep, regroup
from dedup_lib.records import Pair, SweepPoint
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import DecodeSettings, ExtractSettings, NotebookSettings, SearchSettings, UploadSettings
from dedup_lib.ui.explorer import ThresholdExplorer, nearest_index, scores_html

THRESHOLDS = [0.8, 0.85, 0.9, 0.95]
PAIRS = [
    Pair(first=0, second=1, similarity=0.97),
    Pair(first=0, second=2, similarity=0.92),
    Pair(first=2, second=3, similarity=0.83),
]
POINTS = count_sweep(regroup(PAIRS, thresholds=THRESHOLDS), num_videos=4, thresholds=THRESHOLDS)
URLS = ["https://example.com/a.mp4", "javascript:alert(1)", "https://example.com/<b>", "https://example.com/d.mp4"]


def explore(
    run_dir: Path, *, urls: list[str] = URLS, threshold: float = 0.91, settings: SearchSettings | None = None
) -> ThresholdExplorer:
    found = SimpleNamespace(
        plan=SimpleNamespace(threshold=threshold, parameter="min_score", measure="score"),
        by_verdict={"duplicate": np.array([0.97, 0.92]), "different": np.array([0.83, *[0.01] * 1000])},
        compared=SimpleNamespace(pairs=PAIRS),
        urls=urls,
    )
    settings = settings or SearchSettings(run_dir=str(run_dir))
    return ThresholdExplorer(cast(Matches, found), POINTS, run=RunFolder(run_dir), settings=settings)


def test_starts_at_the_point_nearest_to_the_decision(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    assert explorer.slider.value == 0.9
    moved, *shown = explorer.children
    assert list(moved.children) == [explorer.slider, explorer.keep]
    assert shown == [explorer.counts, explorer.kept, explorer.histogram, explorer.borderline]
    assert explorer.keep.description == "Decide by min_score 0.9"
    assert explorer.kept.value == ""


def test_moving_the_slider_updates_everything(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    points = {point.threshold: point for point in POINTS}
    seen = set()
    for threshold in THRESHOLDS:
        explorer.slider.value = threshold
        assert f"<strong>{points[threshold].kept}</strong> of the" in explorer.counts.value
        assert explorer.keep.description == f"Decide by min_score {threshold:g}"
        # The rejected pairs are drawn too, and told in the legend.
        assert "duplicate: 2" in explorer.histogram.value and "different: 1,001" in explorer.histogram.value
        assert "pairs, log scale" in explorer.histogram.value
        assert f">{threshold:.4g}</text>" in explorer.histogram.value
        assert f"the threshold at {threshold:.4f}" in explorer.histogram.value
        seen.add(explorer.histogram.value)
    assert len(seen) == len(THRESHOLDS)


def test_bars_hold_the_pairs_of_their_interval() -> None:
    scores = count_scores({"duplicate": np.array([0.97, 0.979, 1.0]), "review": np.array([0.0, 0.019])})
    html = scores_html(scores, threshold=0.5, measure="score")
    titles = re.findall(r"<title>([^<]+)</title>", html)
    assert titles == ["duplicate, 0.96 to 0.98: 2", "duplicate, 1 to 1.02: 1", "review, 0 to 0.02: 2"]
    assert "duplicate 3; review 2" in html, "for those who do not see it"
    assert count_scores({"different": np.array([-0.31])})["edges"][0] == -0.32
    assert "<rect" not in scores_html(count_scores({}), threshold=0.5, measure="cosine")


def test_borderline_pairs_stand_on_their_side_of_the_threshold(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    above, below = explorer.borderline.value.split("Just not matching")
    assert above.index("0.9200") < above.index("0.9700")
    assert "0.8300" in below
    explorer.slider.value = 0.8
    assert "None." in explorer.borderline.value.split("Just not matching")[1]


def test_text_from_outside_is_escaped_and_pictures_are_embedded(tmp_path: Path) -> None:
    RunFolder(tmp_path).thumbnails_dir.mkdir()
    save_storyboard(URLS[0], thumbnails_dir=RunFolder(tmp_path).thumbnails_dir)
    html = explore(tmp_path).borderline.value
    assert "<b>" not in html
    assert 'href="javascript' not in html
    assert 'src="data:image/webp;base64,' in html
    assert "no picture" in html


def test_widgets_show_neither_credentials_nor_control_characters(tmp_path: Path) -> None:
    urls = ["https://user:secret@h/a", "\x1b[31m\u202e", "HTTPS://token@h/b", "ftp://u:secret@h/"]
    html = explore(tmp_path, urls=urls).borderline.value
    assert not [hidden for hidden in ("secret", "token", "\x1b", "\u202e") if hidden in html]
    assert re.search(r'<a href="https://h/a" rel="noreferrer noopener" [^>]* target="_blank"', html)
    assert "\\x1b[31m\\u202e" in html


def test_an_error_while_moving_surfaces(tmp_path: Path) -> None:
    urls = list(URLS)
    explorer = explore(tmp_path, urls=urls)
    urls.clear()
    with pytest.raises(IndexError):
        explorer.slider.value = 0.8


# The button


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_with_records(*settings: NotebookSettings) -> RunFolder:
    run = RunFolder("outputs/ads")
    for one in settings:
        run.write_record(one, counts={}, files={})
    return run


OF_ADS = {"run_dir": "outputs/ads"}


def test_the_button_keeps_the_value_in_a_profile_that_repeats_the_run(project: Path) -> None:
    extract = ExtractSettings(**OF_ADS, input_csv="ads.csv", encoder="pdq", num_frames=3, overwrite=True, end=100)
    settings = SearchSettings(**OF_ADS, versions="keep", min_score=0.4)
    run = run_with_records(DecodeSettings(**OF_ADS, input_csv="ads.csv"), extract)
    explorer = explore(run.path, settings=settings)
    explorer.slider.value = 0.85
    explorer.keep.click()
    profile = load_profile("outputs/ads/chosen.yaml")
    # Without what says what one call does, above all that a collection is emptied.
    assert profile == {
        **OF_ADS,
        "input_csv": "ads.csv",
        "num_frames": 3,
        "encoder": "pdq",
        "min_score": 0.85,
        "versions": "keep",
    }
    assert "<strong>min_score: 0.85</strong> is in outputs/ads/chosen.yaml. " in explorer.kept.value
    assert ">python -m dedup_lib run outputs/ads/chosen.yaml --only 06</pre>" in explorer.kept.value
    planned = plan_run(profile, only="06")
    assert planned.settings == {"06_search_and_clean": replace(settings, min_score=0.85)}
    assert planned.run.path == run.path


def test_another_choice_takes_the_place_of_the_first(project: Path) -> None:
    run = run_with_records()
    explorer = explore(run.path, settings=SearchSettings(**OF_ADS))
    for threshold, said in ((0.8, "chosen.yaml. "), (0.95, "chosen.yaml, in place of min_score: 0.8. ")):
        explorer.slider.value = threshold
        explorer.keep.click()
        assert said in explorer.kept.value
        assert load_profile("outputs/ads/chosen.yaml")["min_score"] == threshold
    explorer.keep.click()
    assert "in place of" not in explorer.kept.value


@pytest.mark.parametrize("change", ["# mine\n", "versions: keep\n", "- broken: [\n"])
def test_what_a_person_changed_is_left_as_it_is(project: Path, change: str) -> None:
    run = run_with_records()
    explorer = explore(run.path, settings=SearchSettings(**OF_ADS))
    explorer.keep.click()
    path = run.path / "chosen.yaml"
    path.write_text(path.read_text() + change)
    before = path.read_bytes()
    explorer.slider.value = 0.8
    explorer.keep.click()
    assert path.read_bytes() == before
    assert "Not saved:" in explorer.kept.value
    assert "outputs/ads/chosen.yaml was changed by hand" in explorer.kept.value
    assert "put min_score: 0.8 into it yourself" in explorer.kept.value
    path.unlink()
    explorer.keep.click()
    assert "<strong>min_score: 0.8</strong> is in" in explorer.kept.value


def test_a_choice_that_cannot_be_written_is_told(project: Path) -> None:
    (project / "outputs").write_text("a file in the place of the folder")
    explorer = explore(project / "outputs" / "ads", settings=SearchSettings(**OF_ADS))
    explorer.keep.click()
    assert "Not saved:" in explorer.kept.value and "cannot write" in explorer.kept.value


def test_a_run_of_the_batch_flow_keeps_its_mode(project: Path) -> None:
    run = run_with_records(
        ExtractSettings(**OF_ADS, mode="batch"), UploadSettings(**OF_ADS, vectors="average", overwrite=True)
    )
    explorer = explore(run.path, settings=SearchSettings(**OF_ADS))
    explorer.keep.click()
    profile = load_profile("outputs/ads/chosen.yaml")
    assert profile == {**OF_ADS, "mode": "batch", "vectors": "average", "min_score": 0.9}
    assert plan_run(profile).notebooks[-1] == "06_search_and_clean"


@pytest.mark.parametrize("points", [[], count_sweep([], num_videos=4, thresholds=THRESHOLDS)])
def test_without_points_or_pairs_it_says_so(tmp_path: Path, points: list[SweepPoint]) -> None:
    found = SimpleNamespace(
        plan=SimpleNamespace(threshold=0.95, parameter="cosine_thresh", measure="cosine"),
        by_verdict={},
        compared=SimpleNamespace(pairs=[]),
        urls=[],
    )
    settings = SearchSettings(run_dir=str(tmp_path))
    explorer = ThresholdExplorer(cast(Matches, found), points, run=RunFolder(tmp_path), settings=settings)
    assert explorer.slider.disabled
    assert explorer.slider.value == 0.95
    assert list(explorer.children) == [explorer.counts]
    assert "There is no threshold to try" in explorer.counts.value


@pytest.mark.parametrize(("threshold", "index"), [(-1.0, 0), (0.8, 0), (0.876, 2), (1.0, 3)])
def test_nearest_index(threshold: float, index: int) -> None:
    assert nearest_index(THRESHOLDS, threshold=threshold) == index
