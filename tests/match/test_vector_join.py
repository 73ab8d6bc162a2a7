"""Which vectors are alike: the block product and a store's search against brute force in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.errors import RunFolderError, SettingError, StoreError
from dedup_lib.features.vectors import normalise_rows
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.scored import Scored, score_pairs
from dedup_lib.match import vector_join
from dedup_lib.match.index_search import Search, audit_candidates, join_by_search
from dedup_lib.match.known_videos import find_near
from dedup_lib.match.vector_join import TF32_ROUNDING, SearchChoice, choose_search, join_exactly
from dedup_lib.match.vector_table import VectorTable
from dedup_lib.records import Hit, Pair, StoredRows, Vectors, VideoVectors

Videos = list[VideoVectors | None]
ALL = 16_384
MOST = 1_000_000


def video(url: str, rows: object, positions: Sequence[int] | None = None) -> VideoVectors:
    vectors = normalise_rows(np.asarray(rows, dtype=float))
    return VideoVectors(url=url, vectors=vectors, positions=tuple(positions or range(len(vectors))))


def table_of(videos: Videos, *, folder: Path | None = None) -> VectorTable:
    present = [video for video in videos if video is not None]
    return VectorTable.collect(
        ((row, video) for row, video in enumerate(videos) if video is not None),
        positions=max((max(video.positions) + 1 for video in present), default=1),
        dimension=present[0].vectors.shape[1] if present else 4,
        folder=folder or Path(gettempdir()),
    )


def search_in(videos: Sequence[VideoVectors | None]) -> Search:
    """What a store does: the nearest rows of the stored videos, each URL stored once."""
    stored = {video.key: video for video in videos if video is not None}
    keys = [key for key, video in stored.items() for _ in video.positions]
    rows = np.concatenate([video.vectors for video in stored.values()]) if stored else np.zeros((0, 1))

    def search(vectors: Vectors, limit: int) -> list[list[Hit]]:
        cosines = vectors @ rows.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :limit]
        return [
            [Hit(video=keys[column], cosine=float(cosines[row, column])) for column in columns]
            for row, columns in enumerate(order)
        ]

    return search


def score(videos: Videos, *, floor: float, block_lines: int = 3, device: str = "cpu") -> Scored:
    """By the block product."""
    table = table_of(videos)
    proposal = join_exactly(table, floor=floor, max_pairs=MOST, block_lines=block_lines, device=device)
    return score_pairs(table, proposal, rows=len(videos), floor=floor, max_pairs=MOST)


def score_by_search(
    videos: Videos, *, floor: float, top_k: int = 50, largest_top_k: int = ALL, search: Search | None = None
) -> Scored:
    table = table_of(videos)
    keys = {row: video.key for row, video in enumerate(videos) if video is not None}
    proposal = join_by_search(
        table,
        search or search_in(videos),
        floor=floor,
        top_k=(top_k, largest_top_k),
        max_pairs=MOST,
        line_of={keys[row]: line for line, rows in enumerate(table.rows) for row in rows},
    )
    return score_pairs(table, proposal, rows=len(videos), floor=floor, max_pairs=MOST)


def similarity(left: VideoVectors, right: VideoVectors) -> float:
    """The mean cosine of frames at the same position, in float64, position by position."""
    total = 0.0
    for position, vector in zip(left.positions, left.vectors.astype(np.float64), strict=True):
        if position in right.positions:
            other = right.vectors[right.positions.index(position)].astype(np.float64)
            cosine = vector @ other / np.sqrt((vector @ vector) * (other @ other))
            total += float(np.round(min(1.0, cosine), 7))
    return float(np.round(total / max(len(left.positions), len(right.positions)), 7))


def compare_all(videos: Videos, floor: float) -> tuple[Pair, ...]:
    found = []
    for first, second in combinations(range(len(videos)), 2):
        left, right = videos[first], videos[second]
        if left is not None and right is not None:
            value = similarity(left, right)
            if value >= floor:
                found.append(Pair(first=first, second=second, similarity=value))
    return tuple(found)


@st.composite
def lists_of_videos(draw: st.DrawFn, *, most_frames: int = 3) -> Videos:
    """Videos in a few clusters, some without a vector, some URLs twice, some positions missing."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    centres = random.normal(size=(3, most_frames, 4))
    noise = draw(st.sampled_from([0.0, 0.01, 0.3]))
    videos: Videos = []
    for n in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["new", "new", "new", "repeated", "none"]))
        if kind == "none":
            videos.append(None)
        elif kind == "repeated" and (present := [v for v in videos if v is not None]):
            videos.append(present[draw(st.integers(0, len(present) - 1))])
        else:
            positions = sorted(draw(st.sets(st.integers(0, most_frames - 1), min_size=1)))
            rows = centres[draw(st.integers(0, 2)), positions]
            videos.append(video(f"https://h/{n}", rows + noise * random.normal(size=rows.shape), positions))
    return videos


# Similarity


def alike(left: VideoVectors, right: VideoVectors) -> float:
    """Of two videos in one table."""
    (found,) = score([left, right], floor=-1).pairs
    return found.similarity


def test_similarity_is_the_mean_over_positions() -> None:
    first = video("a", [[1, 0], [1, 0], [1, 0]])
    assert alike(first, first) == 1
    assert alike(first, video("b", [[1, 0], [0, 1], [-1, 0]])) == 0
    assert alike(first, video("b", [[1, 0], [1, 0], [0, 1]])) == pytest.approx(2 / 3, abs=1e-6)


def test_frames_are_matched_wherever_they_lie() -> None:
    """An excerpt has all its frames in the whole video, which has more."""
    east, north, up = np.eye(3)
    table = table_of([video("a", [east, north, up]), video("b", [up, up], positions=(0, 2)), video("c", [-east])])
    assert table.compare(np.array([0]), np.array([1])) == pytest.approx(1 / 3)
    assert table.match_frames(0, 1) == table.match_frames(1, 0) == 1.0
    assert table.match_frames(0, 2) == pytest.approx(0.0)
    assert table.match_frames(1, 1) == 1.0


def test_a_position_that_one_lacks_counts_as_nothing() -> None:
    whole = video("a", [[1, 0], [1, 0], [1, 0]])
    assert alike(whole, video("b", [[1, 0]], [1])) == pytest.approx(1 / 3, abs=1e-6)
    assert alike(video("b", [[1, 0], [1, 0]], [0, 2]), whole) == pytest.approx(2 / 3, abs=1e-6)
    assert alike(video("a", [[1, 0]], [0]), video("b", [[1, 0]], [1])) == 0, "no position in common"
    assert alike(video("a", [[1, 0]], [3]), video("b", [[1, 0]], [3])) == 1


# Exactly

floors = st.sampled_from([-1.0, -0.3, 0.0, 0.3, 0.5, 0.8, 0.95, 0.999, 1.0])


@given(videos=lists_of_videos(), floor=floors, block_lines=st.integers(1, 20), device=st.sampled_from(["cpu", "torch"]))
def test_pairs_are_those_of_brute_force(videos: Videos, floor: float, block_lines: int, device: str) -> None:
    found = score(videos, floor=floor, block_lines=block_lines, device="cpu" if device == "cpu" else "cpu:0")
    assert found.pairs == compare_all(videos, floor)
    assert found.floor == floor
    every = compare_all(videos, -1)
    for row, nearest in enumerate(found.nearest):
        others = [pair.similarity for pair in every if row in (pair.first, pair.second)]
        np.testing.assert_allclose(nearest, max(others) if others else np.nan, atol=2e-6)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_neither_blocks_nor_order_decide_at_the_threshold(device: str) -> None:
    """Pairs within a few units of float32 of the threshold: what is at it or above is found, however it is computed."""
    random = np.random.default_rng(0)
    floor, count = 0.9, 120
    base = normalise_rows(random.normal(size=(1, 512)))[0].astype(np.float64)
    rows = []
    for off in np.linspace(-2e-6, 2e-6, count):
        aside = random.normal(size=512)
        aside -= aside @ base * base
        near = floor + off
        rows.append(near * base + np.sqrt(1 - near**2) * aside / np.linalg.norm(aside))
    videos: Videos = [video(f"https://h/{n}", [row]) for n, row in enumerate([base, *rows])]
    expected = [pair for pair in compare_all(videos, floor) if pair.first == 0]
    assert count / 3 < len(expected) < count * 2 / 3, "the threshold goes through the middle of them"
    for block_lines in (1, 7, 64, 1000):
        order = random.permutation(len(videos))
        place = {int(row): at for at, row in enumerate(order)}
        found = score([videos[row] for row in order], floor=floor, block_lines=block_lines, device=device).pairs
        known = {(pair.first, pair.second): pair.similarity for pair in found}
        for pair in expected:
            ends = sorted((place[pair.first], place[pair.second]))
            assert known[ends[0], ends[1]] == pair.similarity
        assert sum(place[0] in pair for pair in known) == len(expected)


def test_vectors_that_are_not_quite_of_unit_length_are_compared_as_if_they_were() -> None:
    one, other = normalise_rows(np.random.default_rng(1).normal(size=(2, 64)))
    exact = similarity(video("a", [one]), video("b", [other]))
    stretched: Videos = [
        VideoVectors(url="a", vectors=np.asarray([one * 0.9992], np.float32), positions=(0,)),
        VideoVectors(url="b", vectors=np.asarray([other * 0.9992], np.float32), positions=(0,)),
    ]
    (found,) = score(stretched, floor=exact).pairs
    assert found.similarity == pytest.approx(exact, abs=2e-7)


@pytest.mark.parametrize("wrong", [[np.nan, 0], [0, 0], [np.inf, 0], [0.9, 0]])
def test_what_is_no_unit_vector_is_refused(wrong: list[float]) -> None:
    bad = VideoVectors(url="bad", vectors=np.array([wrong], np.float32), positions=(0,))
    with pytest.raises(StoreError, match="the vectors of row 2 of the list are not finite or not of unit length"):
        table_of([video("a", [[1, 0]]), bad])


@pytest.mark.parametrize("videos", [[], [None], [None, None], [video("a", [[1, 0]])]])
def test_nothing_to_compare(videos: Videos) -> None:
    for found in (score(videos, floor=0.5), score_by_search(videos, floor=0.5)):
        assert (found.pairs, found.expanded_queries, found.identical) == ((), 0, ())
        assert found.nearest.shape == (len(videos),)
        assert np.isnan(found.nearest).all()


def test_a_repeated_url_is_a_pair_of_its_own() -> None:
    one, other = video("a", [[1, 0]]), video("b", [[0, 1]])
    for scored in (
        score_by_search([one, other, one, None, one], floor=0.5, top_k=2),
        score([one, other, one, None, one], floor=0.5),
    ):
        assert [(p.first, p.second, p.similarity) for p in scored.pairs] == [(0, 2, 1.0), (0, 4, 1.0), (2, 4, 1.0)]


def test_a_disk_that_refuses_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"the vectors of the list cannot be written to .*: make room for 8 bytes"):
        table_of([video("a", [[1, 0]])], folder=tmp_path / "missing")


# Too many


def test_more_pairs_than_memory_holds_end_with_the_settings_name() -> None:
    videos: Videos = [video(f"https://h/{n}", [[1, 0.0001 * n]]) for n in range(60)]
    table = table_of(videos)
    for most in (100, 1769):
        with pytest.raises(SettingError, match=rf"max_pairs = {most} cannot be used: more pairs .* alike from 0\.9 on"):
            join_exactly(table, floor=0.9, max_pairs=most, block_lines=7)
    assert len(join_exactly(table, floor=0.9, max_pairs=1770, block_lines=7).first) == 1770


@given(videos=lists_of_videos(), k_nearest=st.integers(1, 4), most=st.integers(20, 40), block_lines=st.integers(1, 20))
def test_the_nearest_of_each_are_kept_without_holding_the_others(
    videos: Videos, k_nearest: int, most: int, block_lines: int
) -> None:
    table = table_of(videos)
    every = join_exactly(table, floor=-1, max_pairs=MOST)
    similarities = table.compare(every.first, every.second)
    wanted = set()
    for line in range(len(table)):
        ranked = sorted(
            (-value, one + other - line, (one, other))
            for one, other, value in zip(every.first.tolist(), every.second.tolist(), similarities, strict=True)
            if line in (one, other)
        )
        wanted |= {pair for *_, pair in ranked[:k_nearest]}
    if len(wanted) <= most:
        found = join_exactly(table, floor=-1, max_pairs=most, k_nearest=k_nearest, block_lines=block_lines)
        assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted


def crowd_of(count: int, *, others: Sequence[VideoVectors] = ()) -> Videos:
    """So many addresses of one clip, and others."""
    same = video("https://h/same", [[1, 0, 0]]).vectors
    return [
        *(VideoVectors(url=f"https://h/{n}", vectors=same, positions=(0,)) for n in range(count)),
        *others,
    ]


def test_fifty_thousand_addresses_of_one_clip_are_one_group() -> None:
    near, far = video("https://h/near", [[1, 0.1, 0]]), video("https://h/far", [[0, 0, 1]])
    videos = crowd_of(50_000, others=[near, far])
    scored = score(videos, floor=0.5)
    assert len(scored.pairs) == 1, "and not 1.25 billion"
    (group,) = group_copies(scored.pairs, threshold=0.9, identical=scored.identical)
    assert (group.kept, group.copies) == (0, tuple(range(1, 50_001)))
    assert group.similarities == (*[1.0] * 49_999, pytest.approx(0.9950372, abs=1e-6))
    np.testing.assert_array_equal(scored.nearest[[0, 49_999]], [1.0, 1.0])


def test_what_a_person_says_of_videos_in_a_crowd_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup_lib.groups.scored.MAX_IDENTICAL", 2)
    random = np.random.default_rng(3)
    # Two kinds match each other, the others none.
    centres = normalise_rows([[1, 0, 0], [1, 0.3, 0], [0, 0, 1], [0, 1, -1]])
    for _ in range(60):
        kinds = random.integers(0, 4, size=14)
        kinds[:3] = 3
        videos: Videos = [
            VideoVectors(url=f"https://h/{n}", vectors=centres[kind : kind + 1], positions=(0,))
            for n, kind in enumerate(kinds)
        ]
        known = {(pair.first, pair.second): pair.similarity for pair in compare_all(videos, 0.2)}
        a, b, c, d = (int(row) for row in random.permutation(14)[:4])
        same, different = {(min(a, b), max(a, b))}, {(min(c, d), max(c, d))}
        scored = score(videos, floor=0.2)
        assert any(kinds[alike_rows[0]] == 3 for alike_rows in scored.identical)
        groups = group_copies(
            scored.pairs, threshold=0.4, choose=max, same=same, different=different, identical=scored.identical
        )
        group_of = {row: group.kept for group in groups for row in (group.kept, *group.copies)}
        assert len(group_of) == sum(group.size for group in groups), "a row stands in one group"
        assert group_of[a] == group_of[b]
        assert group_of.get(c, c) != group_of.get(d, d)
        for alike_rows in scored.identical:
            assert len({group_of[row] for row in alike_rows if row not in (a, b, c, d)}) <= 1, "they stay together"
        for group in groups:
            for copy, said in zip(group.copies, group.similarities, strict=True):
                exact = known.get((min(copy, group.kept), max(copy, group.kept)), np.nan)
                np.testing.assert_equal(said, exact)
                assert said >= 0.4 or {copy, group.kept} & {a, b}, "what does not match is joined by a person"
        kept = [row for row in range(14) if group_of.get(row, row) == row]
        for pair in combinations(kept, 2):
            assert known.get(pair, 0) < 0.4 or {c, d} & set(pair), "no two kept videos match but for what is kept apart"


# By search


@given(
    videos=lists_of_videos(),
    floor=st.sampled_from([0.01, 0.3, 0.5, 0.8, 0.95, 0.999, 1.0]),
    top_k=st.integers(2, 6),
    more=st.integers(0, 30),
)
def test_an_exact_search_finds_the_same_pairs(videos: Videos, floor: float, top_k: int, more: int) -> None:
    scored = score_by_search(videos, floor=floor, top_k=top_k, largest_top_k=top_k + more)
    assert scored.pairs == compare_all(videos, floor)


def test_a_group_larger_than_every_limit_is_not_cut() -> None:
    videos: Videos = [video(f"https://h/{n}", [[1, 0.001 * n], [0, 1]]) for n in range(40)]
    scored = score_by_search(videos, floor=0.9, top_k=2, largest_top_k=16)
    assert len(scored.pairs) == 40 * 39 / 2
    assert scored.expanded_queries > 0
    assert score_by_search(videos, floor=0.9, top_k=ALL).expanded_queries == 0


def test_videos_of_other_lists_take_no_place() -> None:
    """A collection may hold more than the list; its rows push those of the list down."""
    strangers = [video(f"https://other/{n}", [[1, 0.0001 * n]]) for n in range(30)]
    videos: Videos = [video("https://h/a", [[1, 0]]), None, video("https://h/b", [[1, 0.01]])]
    scored = score_by_search(videos, floor=0.9, top_k=2, largest_top_k=8, search=search_in([*strangers, *videos]))
    assert [(pair.first, pair.second) for pair in scored.pairs] == [(0, 2)]
    assert np.isnan(scored.nearest[1])


def test_how_near_the_nearest_is_below_the_floor_too() -> None:
    videos: Videos = [video("a", [[1, 0]]), video("b", [[1, 1]]), video("c", [[-1, 0.1]])]
    for scored in (score(videos, floor=0.99), score_by_search(videos, floor=0.99, top_k=2)):
        assert scored.pairs == ()
        np.testing.assert_allclose(scored.nearest, [0.5**0.5, 0.5**0.5, -0.633238], atol=1e-5)


# Audit


def forgetful(search: Search, share: float) -> Search:
    """An index that finds a vector's neighbours only now and then."""
    random = np.random.default_rng(0)

    def searched(vectors: Vectors, limit: int) -> list[list[Hit]]:
        return [hits if random.random() < share else [] for hits in search(vectors, limit)]

    return searched


def test_an_audit_counts_what_an_index_misses() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(150, 16)), 2, axis=0) + 0.05 * random.normal(size=(300, 16))
    videos: Videos = [video(f"https://h/{n}", [row]) for n, row in enumerate(rows)]
    table = table_of(videos)
    line_of = {one.key: row for row, one in enumerate(videos) if one is not None}

    def audit(search: Search) -> tuple[int, int, float | None]:
        proposal = join_by_search(table, search, floor=0.9, top_k=(5, 50), max_pairs=MOST, line_of=line_of)
        found = audit_candidates(table, proposal, floor=0.9, videos=200, max_pairs=MOST)
        assert found.videos == 200
        return found.pairs, found.found, found.recall

    pairs, found, recall = audit(search_in(videos))
    assert pairs == found > 100 and recall == 1
    missed_pairs, missed_found, missed_recall = audit(forgetful(search_in(videos), 0.5))
    assert missed_pairs == pairs
    # A pair is missed when neither of its two is asked in luck.
    assert missed_recall == pytest.approx(0.75, abs=0.12) == missed_found / pairs
    exact = join_exactly(table, floor=0.9, max_pairs=MOST)
    assert audit_candidates(table, exact, floor=0.9, videos=1000, max_pairs=MOST).recall == 1
    assert audit_candidates(table, exact, floor=0.999999, videos=1000, max_pairs=MOST).recall is None
    nearest = join_exactly(table, floor=0.3, max_pairs=MOST, k_nearest=2)
    assert audit_candidates(table, nearest, floor=0.3, videos=100, max_pairs=MOST, k_nearest=2).recall == 1
    assert (audit_candidates(table, nearest, floor=0.3, videos=100, max_pairs=MOST).recall or 0) < 0.9


# New against old


@given(videos=lists_of_videos(), old=lists_of_videos(), floor=floors, block=st.integers(1, 9))
def test_old_videos_that_are_alike_are_found_however_they_are_streamed(
    videos: Videos, old: Videos, floor: float, block: int
) -> None:
    stored = {v.key: replace(v, url=f"{v.url}#old") for v in old if v is not None}
    rows = sorted(
        (v.key, p, v, vector) for v in stored.values() for p, vector in zip(v.positions, v.vectors, strict=True)
    )
    table = table_of([*videos, video("https://h/three", np.eye(3, 4))])

    def stream() -> Iterator[StoredRows]:
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            yield StoredRows(
                keys=tuple(f"{key}-{position}" for key, position, _, _ in part),
                videos=tuple(key for key, _, _, _ in part),
                urls=tuple(v.url for _, _, v, _ in part),
                positions=tuple(position for _, position, _, _ in part),
                vectors=np.array([vector for *_, vector in part]),
            )

    known = {v.key for v in list(stored.values())[:1]}

    def is_wanted(key: str) -> bool:
        return key not in known

    found = find_near(table, stream(), floor=floor, is_wanted=is_wanted, max_pairs=MOST)
    assert len(found) == len(set(found))
    new = [v for v in [*videos, video("https://h/three", np.eye(3, 4))] if v is not None]
    near = {v.url: max(similarity(one, v) for one in new) for v in stored.values() if v.key not in known}
    assert {url for url, value in near.items() if value >= floor} <= set(found)
    assert set(found) <= {url for url, value in near.items() if value >= floor - 1e-5}
    if len(found) > 1:
        with pytest.raises(SettingError, match="max_pairs = 1 "):
            find_near(table, stream(), floor=floor, is_wanted=is_wanted, max_pairs=1)


# By size


@pytest.mark.parametrize(
    ("wanted", "videos", "has_gpu", "found"),
    [
        ("auto", 2, True, ("exact", "cpu", "all with all takes about 1 s on 2 cores")),
        ("auto", 90_000, False, ("exact", "cpu", "all with all takes about 26 s on 2 cores")),
        ("auto", 90_000, True, ("exact", "cuda", "all with all takes about 1 s on the GPU")),
        (
            "auto",
            10_000_000,
            False,
            ("ann", "cpu", "all with all takes about 89 hours on 2 cores, more than 30 minutes"),
        ),
        ("auto", 10_000_000, True, ("exact", "cuda", "all with all takes about 21 minutes on the GPU")),
        ("exact", 10_000_000, False, ("exact", "cpu", "as asked; all with all takes about 89 hours on 2 cores")),
        ("ann", 2, True, ("ann", "cpu", "as asked; all with all takes about 1 s on 2 cores")),
    ],
)
def test_the_seconds_on_the_best_device_decide(
    wanted: str, videos: int, has_gpu: bool, found: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_join, "count_cores", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_search(wanted, videos=videos, width=512) == SearchChoice(*found)


def as_tf32(vectors: Vectors) -> Vectors:
    """The numbers as a GPU rounds them to 11 bits, to the nearest, and to the even one between two."""
    bits = vectors.view(np.uint32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)
    return rounded.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("width", [2, 64, 512])
def test_rounding_on_a_gpu_hides_no_pair(width: int) -> None:
    vectors = normalise_rows(np.random.default_rng(width).standard_normal((400, width))).astype(np.float32)
    assert 0.9 * TF32_ROUNDING < np.abs(as_tf32(vectors) / vectors - 1).max() <= TF32_ROUNDING
    exact, rounded = (every.astype(np.float64) @ every.T.astype(np.float64) for every in (vectors, as_tf32(vectors)))
    assert 0 < np.abs(rounded - exact).max() <= 2.1 * TF32_ROUNDING
