from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dedup_lib.decide import sweep_thresholds
from dedup_lib.plots import thumbnail_path
from dedup_lib.records import Pair
from dedup_lib.widgets import ThresholdExplorer, nearest_index

THRESHOLDS = [0.8, 0.85, 0.9, 0.95]
PAIRS = [
    Pair(first=0, second=1, similarity=0.97),
    Pair(first=0, second=2, similarity=0.92),
    Pair(first=2, second=3, similarity=0.83),
]
URLS = ["https://example.com/a.mp4", "javascript:alert(1)", "https://example.com/<b>", "https://example.com/d.mp4"]


def explore(thumbnails_dir: Path, *, urls: list[str] = URLS, threshold: float = 0.91) -> ThresholdExplorer:
    return ThresholdExplorer(
        sweep_thresholds(PAIRS, num_videos=4, thresholds=THRESHOLDS),
        pair_similarities=np.array([pair.similarity for pair in PAIRS]),
        threshold=threshold,
        pairs=PAIRS,
        urls=urls,
        thumbnails_dir=thumbnails_dir,
    )


def test_starts_at_the_point_nearest_to_the_decision(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    assert explorer.slider.value == 0.9
    assert list(explorer.children) == [explorer.slider, explorer.counts, explorer.histogram, explorer.borderline]
    assert "cosine_thresh: 0.9<" in explorer.counts.value
    assert "decides nothing" in explorer.counts.value


def test_moving_the_slider_updates_everything(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    points = {point.threshold: point for point in sweep_thresholds(PAIRS, num_videos=4, thresholds=THRESHOLDS)}
    seen = set()
    for threshold in THRESHOLDS:
        explorer.slider.value = threshold
        assert f"<strong>{points[threshold].kept}</strong> videos kept" in explorer.counts.value
        assert f"cosine_thresh: {threshold:g}" in explorer.counts.value
        picture = bytes(explorer.histogram.value)
        assert picture.startswith(b"\x89PNG")
        seen.add(picture)
    assert len(seen) == len(THRESHOLDS)


def test_borderline_pairs_stand_on_their_side_of_the_threshold(tmp_path: Path) -> None:
    explorer = explore(tmp_path)
    above, below = explorer.borderline.value.split("Just not matching")
    assert above.index("0.9200") < above.index("0.9700")
    assert "0.8300" in below
    explorer.slider.value = 0.8
    assert "None." in explorer.borderline.value.split("Just not matching")[1]


def test_text_from_outside_is_escaped_and_pictures_are_embedded(tmp_path: Path) -> None:
    plt.imsave(thumbnail_path(URLS[0], thumbnails_dir=tmp_path), np.zeros((8, 8, 3), dtype=np.uint8))
    html = explore(tmp_path).borderline.value
    assert "<b>" not in html
    assert 'href="javascript' not in html
    assert 'src="data:image/jpeg;base64,' in html
    assert "no picture" in html


def test_an_error_while_moving_surfaces(tmp_path: Path) -> None:
    urls = list(URLS)
    explorer = explore(tmp_path, urls=urls)
    urls.clear()
    with pytest.raises(IndexError):
        explorer.slider.value = 0.8


def test_without_points_and_pairs_it_says_so(tmp_path: Path) -> None:
    explorer = ThresholdExplorer(
        [], pair_similarities=np.array([]), threshold=0.93, pairs=[], urls=[], thumbnails_dir=tmp_path
    )
    assert explorer.slider.disabled
    assert explorer.slider.value == 0.93
    assert "No thresholds were tried" in explorer.counts.value
    assert explorer.borderline.value.count("None.") == 2


@pytest.mark.parametrize(("threshold", "index"), [(-1.0, 0), (0.8, 0), (0.876, 2), (1.0, 3)])
def test_nearest_index(threshold: float, index: int) -> None:
    assert nearest_index(THRESHOLDS, threshold=threshold) == index
