"""What speaks for two videos being the same, and the verdict: pictures that agree at the same times, and a second
opinion by local features where the first is not overwhelming.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dedup_lib.alignment import (
    OFFSET_TOLERANCE_S,
    Stretch,
    align,
    count_differing_bits,
    hash_orientations,
    hash_pictures,
    turn_pictures,
)
from dedup_lib.candidates import propose_pairs
from dedup_lib.changes import ALIKE, Changes, Course, compare_courses, correlate_stretch, trace_course
from dedup_lib.decide import Choose, Scored, components, group_copies, is_match, neighbours
from dedup_lib.fingerprints import FINGERPRINTS_AT_HAND, Fingerprint, keep_recent
from dedup_lib.frames import resize_frame
from dedup_lib.overlays import Side, find_overlay, is_frame
from dedup_lib.records import Begin, Group, Marks, Pair, begin_silently
from dedup_lib.regions import SAME_MOMENT_S, STILL_PX, Laid, Region, find_difference, measure_fit, show_the_same
from dedup_lib.registration import Registration, find_overlap, register, warp_miniatures, warp_stills
from dedup_lib.score import AGAINST, compute_score, count_as_share

MAX_DISTANCE_BITS = 56
"""Two pictures this near show the same: unlike ones lie at 75 bits and more, most above 100."""

MAX_REGISTERED_DISTANCE_BITS = 48
"""Of pictures laid on one another, which are alike by their geometry already, more is asked."""

FEWEST_AGREEING = 3
LONGEST_PICTURE_S = 1.0
"""Fewer pictures prove nothing, unless both videos are this short and one has no more."""

SAME_DURATION = 0.98
"""Fewer pictures that are the very same prove it where both videos are equally long."""

FEWEST_SCENES = 3
CLOSE_BITS = 28
"""Pictures of a scene that hardly changes agree at any time, and two people before one wall are nearly as alike as a
copy with a logo: pictures must show so many scenes or be this close, and what moves must not speak against them unless
they do both."""

LOWEST_CORRELATION = 0.5
FEWEST_TO_CONTRADICT = 5
"""Such pictures prove nothing where so many of them, laid beside each other at any offset, do not change alike: those
of copies do, two takes of one scene do not."""

OVERWHELMING_AGREEMENT = 0.5
OVERWHELMING_AGREEING = 6
"""From here on the pictures alone decide, and no second opinion is asked; fewer of them must be close and show several
scenes."""

FEWEST_REGISTERED_POINTS = 12
SMALLEST_REGISTERED_SHARE = 0.3
"""A logo or a caption that two videos share covers less of their pictures."""

FEWEST_CONFIRMING_POINTS = 30
CONFIRMING_FRACTION = 0.3
"""So many points, and this share of their matches, confirm pictures that agree."""

SETTLED_SHARE = 0.8
"""Where both videos have so much in common, a second opinion is not asked."""

SMALLEST_CONTAINED_SHARE = 0.9
"""Share of the shorter video that makes it an excerpt of the longer."""

WORTH_COMPARING = 0.8
"""Another way to lay two videos beside one another counts when it compares at least this share of their pictures."""

LOWEST_AGREEMENT = 0.3
SMALLEST_COMMON_SHARE = 0.5
"""Duplicates have at least this share of the longer video in common, and of its pictures so many agree."""

FULL_FRAMES = 8
FULL_SCENES = 5
"""From so many on, more pictures that agree, and more changes of scene among them, say no more."""


OF_THE_LIST = ("first", "second", "cosine", "words", "is_unseen", "duration_ratio", "longest_s")
"""Those fields of `Evidence` that the list gives, and not the fingerprints of the pair."""

MOST_STILLS_BESIDE = 32
"""Of two long films so many stills are compared, spread over all that they share: what differs does so throughout."""


class Verdict(StrEnum):
    """What is decided about two videos."""

    DUPLICATE = "duplicate"
    EXCERPT = "excerpt"
    """One of them is contained in the other."""
    REVIEW = "review"
    """The criteria contradict each other: a person should look."""
    DIFFERENT = "different"


class Rule(StrEnum):
    """What decided."""

    EXACT = "identical pictures"
    PICTURES = "pictures agree"
    CONFIRMED = "pictures agree, points confirm"
    REGISTERED = "pictures agree when laid on one another"
    CHANGES = "pictures change alike"
    REGISTERED_CHANGES = "pictures change alike when laid on one another"
    SHORT = "only a part is shared"
    UNCONFIRMED = "pictures agree, points or movement do not"
    DIFFERS = "a part of the picture differs throughout"
    UNLIKE = "frames are unlike by the encoder"
    ALIKE = "frames are alike by the encoder, pictures do not agree"
    WEAK = "too few pictures agree"
    PERSON = "a person's decision"
    COSINE = "cosine"


DECIDING_RULES = (Rule.PICTURES, Rule.CONFIRMED, Rule.REGISTERED, Rule.CHANGES, Rule.REGISTERED_CHANGES)
"""Those by which a share of pictures that agree may decide."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The knobs of a verdict. Turning one looser (down) never loses a match."""

    min_score: float
    """From this score on two videos are the same."""
    review_from: float
    """From this one up to there, a person should look."""
    versions: Literal["review", "remove", "keep"] = "review"
    """What becomes of two videos that are the same but for a part of the picture that differs throughout: a person
    should look, or they are the same, or they are not."""
    unlike_below: float = -1.0
    """Duplicates whose frames are less alike by the encoder's vectors are for a person to look at."""
    alike_from: float = math.inf
    """So are videos whose frames are at least so alike, though their pictures do not prove it."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found about two videos, by their rows in the list (`first` < `second`). No knob changes it."""

    first: int
    second: int
    cosine: float = float("nan")
    """How alike the frames of the one are to those of the other by the encoder's vectors: the mean over the frames of
    one video of the cosine to the nearest frame of the other, of both ways the larger; NaN without vectors."""
    words: float = 0.0
    """Cosine of the bags of visual words; 0 where these did not propose the pair."""
    pictures: Stretch | None = None
    """What agrees of the pictures as they are."""
    registered: Stretch | None = None
    """What agrees of them laid on one another."""
    registration: Registration | None = None
    changes: Changes | None = None
    """How alike both change; None where that was not asked, or where one is too short for it."""
    registered_changes: Changes | None = None
    """How alike they change when laid on one another."""
    overlay: Side = ""
    """Which of the two bears a logo or the like that the other one lacks; "" where that is not known."""
    difference: Region | None = None
    """The part of the picture that differs throughout, however much agrees."""
    framed: Side = ""
    """Which of the two shows the other one as a part of a larger picture that stands still around it."""
    is_exact: bool = False
    is_unseen: bool = False
    """Whether the vectors are all that is known of one of the two, and are as alike as those of copies."""
    fewest_pictures: int = 0
    """Of the two videos, what the one with fewer has."""
    duration_ratio: float = float("nan")
    """Of the shorter video to the longer."""
    longest_s: float = float("nan")
    """Duration of the longer one."""

    @property
    def is_enough(self) -> bool:
        """Whether as many pictures agree as a proof needs."""
        return self._has_enough(self.pictures)

    def _has_enough(self, stretch: Stretch | None) -> bool:
        if stretch is None:
            return False
        fewest = FEWEST_AGREEING if self.longest_s > LONGEST_PICTURE_S else min(FEWEST_AGREEING, self.fewest_pictures)
        return stretch.agreeing >= fewest or self._is_short_pair(stretch)

    def _is_short_pair(self, stretch: Stretch) -> bool:
        """Whether one video has two pictures, which show two scenes, and the other one shows nearly the same ones."""
        return (
            stretch.agreeing == self.fewest_pictures == stretch.scenes == 2
            and _is_close(stretch)
            and self.duration_ratio * self.longest_s <= LONGEST_PICTURE_S
        )

    def _proves(self, stretch: Stretch | None) -> bool:
        """Whether what agrees is enough, and nearly identical in several scenes; one of the two will do where what
        moves does not speak against it."""
        if stretch is None or not self._has_enough(stretch):
            return False
        is_close, is_varied = _is_close(stretch), _is_varied(stretch)
        return (is_close and is_varied) or ((is_close or is_varied) and not self._is_contradicted(stretch))

    def _is_contradicted(self, stretch: Stretch) -> bool:
        """Whether the pictures are alike, but not what moves in them, however they are laid."""
        asked = [one for one in (self.changes, self.registered_changes) if one is not None and one.moves]
        known = [one.stretch.correlation for one in asked if one.stretch.compared >= FEWEST_TO_CONTRADICT]
        # In one scene any offset will do for the pictures, and the stretch may lie wrong.
        if _is_varied(stretch):
            known.append(stretch.correlation)
        return bool(known) and bool(np.fmax.reduce(known) < LOWEST_CORRELATION)

    @property
    def is_overwhelming(self) -> bool:
        """Whether the pictures decide without a second opinion."""
        return (
            self.pictures is not None
            and self._proves(self.pictures)
            and self.pictures.agreement >= OVERWHELMING_AGREEMENT
            and (
                self.pictures.agreeing >= OVERWHELMING_AGREEING
                or (
                    self.pictures.agreeing >= FEWEST_AGREEING and _is_close(self.pictures) and _is_varied(self.pictures)
                )
            )
        )

    @property
    def is_settled(self) -> bool:
        """Whether a second opinion could change nothing: all of one video is there, or nearly all of both."""
        if self.pictures is None or not self.is_overwhelming:
            return False
        shares = self.pictures.first_coverage, self.pictures.second_coverage
        return max(shares) >= SMALLEST_CONTAINED_SHARE or min(shares) >= SETTLED_SHARE

    @property
    def is_settled_by_changes(self) -> bool:
        """Whether both videos change alike nearly throughout, so that local features could add nothing."""
        return (
            self.changes is not None
            and self.changes.is_alike
            and min(self.changes.stretch.first_coverage, self.changes.stretch.second_coverage) >= SETTLED_SHARE
        )

    @property
    def is_laid(self) -> bool:
        """Whether the points of both videos agree on how their pictures lie on one another, in enough of them."""
        return (
            self.registration is not None
            and self.registration.points >= FEWEST_REGISTERED_POINTS
            and max(self.registration.first_share, self.registration.second_share) >= SMALLEST_REGISTERED_SHARE
        )

    @cached_property
    def is_registered(self) -> bool:
        """Whether the pictures, laid on one another, are enough to decide by."""
        return self.is_laid and self._proves(self.registered)

    @property
    def is_confirmed(self) -> bool:
        """Whether the second opinion supports pictures that agree as they are."""
        return self._proves(self.pictures) and (
            self.is_registered
            or (
                self.is_laid
                and self.registration is not None
                and self.registration.points >= FEWEST_CONFIRMING_POINTS
                and self.registration.points >= CONFIRMING_FRACTION * self.registration.matches
            )
        )

    @cached_property
    def best(self) -> tuple[Rule, Stretch | None]:
        """The strongest stretch that is allowed to decide, and by which rule."""
        allowed: list[tuple[float, Rule, Stretch]] = []
        if self.is_exact and self.pictures is not None and (self.is_enough or self.duration_ratio >= SAME_DURATION):
            return Rule.EXACT, self.pictures
        if self.pictures is not None and self.is_enough and (self.is_overwhelming or self.is_confirmed):
            rule = Rule.PICTURES if self.is_overwhelming else Rule.CONFIRMED
            allowed.append((self.pictures.strength, rule, self.pictures))
        if self.registered is not None and self.is_registered:
            allowed.append((self.registered.strength, Rule.REGISTERED, self.registered))
        # Where pictures are nearly identical throughout, what moves has nothing to add.
        is_open = not any(
            _is_close(one)
            and one.agreement >= OVERWHELMING_AGREEMENT
            and min(one.first_coverage, one.second_coverage) >= SETTLED_SHARE
            for _, _, one in allowed
        )
        if is_open and self.changes is not None and self.changes.is_alike:
            allowed.append((self.changes.stretch.strength, Rule.CHANGES, self.changes.stretch))
        if is_open and self.is_laid and self.registered_changes is not None and self.registered_changes.is_alike:
            stretch = self.registered_changes.stretch
            allowed.append((stretch.strength, Rule.REGISTERED_CHANGES, stretch))
        if not allowed:
            doubtful = [self.pictures] if self.is_enough else []
            if self.is_laid and self._has_enough(self.registered):
                doubtful.append(self.registered)
            if not doubtful:
                return Rule.WEAK, self.pictures
            return Rule.UNCONFIRMED, max(doubtful, key=lambda stretch: stretch.strength if stretch else 0.0)
        _, rule, stretch = max(allowed, key=lambda one: one[0])
        return rule, stretch

    @property
    def common_shares(self) -> tuple[float, float]:
        """Of what both show, the share of the video of which it is less, and of the other one."""
        _, stretch = self.best
        if stretch is None:
            return 0.0, 0.0
        less, more = sorted((stretch.first_coverage, stretch.second_coverage))
        return less, more

    @property
    def is_whole(self) -> bool:
        """Whether both show most of the longer video, or nearly all of the shorter one."""
        less, more = self.common_shares
        return less >= SMALLEST_COMMON_SHARE or more >= SMALLEST_CONTAINED_SHARE

    @property
    def is_proven(self) -> bool:
        """Whether one of the criteria holds, for enough of the two videos."""
        rule, stretch = self.best
        return (
            (rule == Rule.EXACT or rule in DECIDING_RULES)
            and stretch is not None
            and stretch.agreement >= LOWEST_AGREEMENT
            and self.is_whole
        )

    @cached_property
    def terms(self) -> Mapping[str, float]:
        """What the score is made of, by the names of `score.TERMS`."""
        _, stretch = self.best
        seen = [one for one in (self.pictures, self.registered if self.is_laid else None) if one is not None]
        moved = [
            one.stretch.correlation
            for one in (self.changes, self.registered_changes if self.is_laid else None)
            if one is not None and one.moves and one.stretch.compared >= FEWEST_TO_CONTRADICT
        ]
        moved += [one.correlation for one in seen if not math.isnan(one.correlation)]
        return {
            "criteria": float(self.is_proven),
            "frames": stretch.agreement * count_as_share(stretch.agreeing, full=FULL_FRAMES) if stretch else 0.0,
            "scenes": count_as_share(max((one.scenes for one in seen), default=1) - 1, full=FULL_SCENES),
            "coverage": self.common_shares[1],
            "motion": max(0.0, *moved, 0.0),
            "differs": float(self.difference is not None),
            "region": self.difference.share if self.difference is not None else 0.0,
        }

    @cached_property
    def score(self) -> float:
        """How surely the two are the same video, 0 to 1."""
        rule, stretch = self.best
        if stretch is None:
            return 0.0
        return 1.0 if rule == Rule.EXACT and self.is_proven else round(compute_score(self.terms), 7)

    def score_under(self, rules: Rules) -> float:
        """The score, whatever part of the picture differs where that does not matter."""
        if self.difference is None or rules.versions != "remove":
            return self.score
        return round(compute_score({**self.terms, **dict.fromkeys(AGAINST, 0.0)}), 7)

    def judge(self, rules: Rules) -> tuple[Verdict, Rule]:
        """The verdict under `rules`, and what decided."""
        if self.is_unseen:
            return Verdict.REVIEW, Rule.COSINE
        rule, _ = self.best
        if self.difference is not None and self.is_proven:
            if rules.versions != "remove":
                return (Verdict.REVIEW if rules.versions == "review" else Verdict.DIFFERENT), Rule.DIFFERS
            rule = Rule.DIFFERS
        may_join = self.difference is None or rules.versions == "remove"
        if may_join and self.is_whole and self.score_under(rules) >= rules.min_score:
            is_duplicate = self.common_shares[0] >= SMALLEST_COMMON_SHARE
            # The frames of a video that is far longer may lie elsewhere.
            if is_duplicate and rule != Rule.EXACT and self.cosine < rules.unlike_below:
                return Verdict.REVIEW, Rule.UNLIKE
            return (Verdict.DUPLICATE if is_duplicate else Verdict.EXCERPT), rule
        if rule in DECIDING_RULES and not self.is_whole:
            return Verdict.DIFFERENT, Rule.SHORT
        # One picture or two may agree by chance, and be all that a short clip has; and a small part may be an intro.
        is_question = rule != Rule.WEAK and self.common_shares[1] >= SMALLEST_COMMON_SHARE
        if self.score >= rules.review_from and is_question:
            return Verdict.REVIEW, rule
        return (Verdict.REVIEW, Rule.ALIKE) if self.cosine >= rules.alike_from else (Verdict.DIFFERENT, rule)

    def exchanged(self) -> Evidence:
        """What was found when the second video is taken for the first."""
        return replace(
            self,
            pictures=self.pictures.exchanged() if self.pictures is not None else None,
            registered=self.registered.exchanged() if self.registered is not None else None,
            registration=self.registration.exchanged() if self.registration is not None else None,
            changes=self.changes.exchanged() if self.changes is not None else None,
            registered_changes=self.registered_changes.exchanged() if self.registered_changes is not None else None,
            overlay=_OTHER_SIDE[self.overlay],
            framed=_OTHER_SIDE[self.framed],
        )

    @property
    def excerpt(self) -> Literal["first", "second"]:
        """Which of the two shows less beyond what they share."""
        _, stretch = self.best
        return "first" if stretch is not None and stretch.first_coverage > stretch.second_coverage else "second"


def _is_close(stretch: Stretch) -> bool:
    """Whether the pictures that agree are nearly identical."""
    return stretch.distance_bits <= CLOSE_BITS


def _is_varied(stretch: Stretch) -> bool:
    """Whether they show several scenes."""
    return stretch.scenes >= FEWEST_SCENES


_OTHER_SIDE: Mapping[Side, Side] = {"first": "second", "second": "first", "": ""}


@dataclass(frozen=True)
class _Looks:
    """What is compared of one fingerprint, worked out when it is first asked for."""

    fingerprint: Fingerprint

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """uint8 (8, N, 32), in the order of `alignment.ORIENTATIONS`."""
        return hash_orientations(self.fingerprint.miniatures)

    @cached_property
    def course(self) -> Course:
        one = self.fingerprint
        return trace_course(one.miniatures, times_s=one.times_s, weights=one.weights)


def _looks_of(fingerprints: Sequence[Fingerprint | None]) -> Callable[[int], _Looks | None]:
    """The looks of the video in a row; those used last are kept."""

    def make(row: int) -> _Looks | None:
        fingerprint = fingerprints[row]
        return _Looks(fingerprint) if fingerprint is not None else None

    return keep_recent(make, count_pictures=lambda one: len(one.fingerprint.times_s) if one is not None else 0)


@dataclass(frozen=True, kw_only=True)
class Weighed(Scored):
    """All pairs of a list that some threshold would call the same, and what speaks for every pair that was compared.

    `similarity` of the pairs is their score; of a list compared by cosine alone, which has no `evidence`, it is that
    cosine.
    """

    evidence: Mapping[tuple[int, int], Evidence]

    @cached_property
    def neighbours_of(self) -> Mapping[int, Mapping[int, float]]:
        """Of each row, how near every other one is that it was compared with."""
        compared = (
            [(rows, evidence.score) for rows, evidence in self.evidence.items()]
            if self.evidence
            else [((pair.first, pair.second), pair.similarity) for pair in self.pairs]
        )
        found: dict[int, dict[int, float]] = {}
        for (first, second), similarity in compared:
            found.setdefault(first, {})[second] = similarity
            found.setdefault(second, {})[first] = similarity
        return found

    @cached_property
    def shown_by(self) -> Mapping[int, int]:
        """The row that stands in pairs for each row of a crowd."""
        return {row: crowd[0] for crowd in self.crowds for row in crowd}

    def similarity_of(self, first: int, second: int) -> float | None:
        """How near two rows are, None where they were not compared or are too far from each other."""
        one, other = (self.shown_by.get(row, row) for row in (first, second))
        return 1.0 if one == other else self.neighbours_of.get(one, {}).get(other)

    @cached_property
    def marks(self) -> Marks:
        """The rows of which one of their copies shows that they are no original."""
        return _find_marks(self.pairs, self.evidence)

    @classmethod
    def by_cosine(cls, scored: Scored) -> Weighed:
        """A list that the encoder's vectors alone decide about."""
        return cls(
            pairs=scored.pairs,
            nearest=scored.nearest,
            floor=scored.floor,
            searched_deeper=scored.searched_deeper,
            crowds=scored.crowds,
            evidence={},
        )

    def about(self, first: int, second: int) -> Evidence | None:
        """What is known of two rows, whichever comes first."""
        return self.evidence.get((min(first, second), max(first, second)))


def weigh_list(
    fingerprints: Sequence[Fingerprint | None],
    *,
    scored: Scored,
    durations_s: Sequence[float],
    rules: Rules,
    keeps_excerpts: bool,
    max_candidates: int,
    damp_hubs: bool,
    cosine_of: Callable[[int, int], float] = lambda first, second: math.nan,
    choose_knowing: Callable[[Marks], Choose] = lambda marks: min,
    own_rows: int | None = None,
    strict_cosine: float = 1.0,
    recall: Callable[[int, int], Evidence | None] = lambda first, second: None,
    remember: Callable[[Evidence], object] = lambda found: None,
    begin: Begin = begin_silently,
) -> Weighed:
    """Compare the pictures of every pair that the vectors (`scored`) or visual words propose, and then of every video
    with those that would be kept of the videos that hang together with it: no copy is missed because too many others
    were nearer. `cosine_of` gives the `Evidence.cosine` of two rows; `choose_knowing` says which one is kept, given the
    rows that are no originals.

    Rows from `own_rows` on were there before the list, and are compared with rows of the list only; where one has no
    fingerprint, a person is asked about the videos whose cosine to it is at least `strict_cosine`. Other rows without a
    fingerprint take no part. `rules` are the loosest that will be asked for; with `keeps_excerpts` a video that is
    contained in another is no copy of it. `recall` gives what the fingerprints of two rows said before, None where they
    must be compared, and `remember` is told what they say now. `begin` is told of the pairs to be compared in all, as
    far as they are known.
    """
    near = _nearest_pairs(scored.pairs, most=max_candidates) if damp_hubs else scored.pairs
    proposed = {(pair.first, pair.second): Evidence(first=pair.first, second=pair.second) for pair in near}
    # Of a crowd, each with the first of them.
    for crowd in scored.crowds:
        for first, second in product(crowd[:max_candidates], crowd):
            if first < second and (own_rows is None or first < own_rows):
                proposed[first, second] = Evidence(first=first, second=second)
    for candidate in propose_pairs(
        fingerprints, most=max_candidates, damp_hubs=damp_hubs, own_rows=own_rows, begin=begin
    ):
        rows = candidate.first, candidate.second
        known = proposed.get(rows) or Evidence(first=candidate.first, second=candidate.second)
        proposed[rows] = replace(known, words=candidate.score)
    looks_of = _looks_of(fingerprints)
    evidence: dict[tuple[int, int], Evidence] = {}
    pairs: list[Pair] = []
    nearest = np.full(len(fingerprints), np.nan)
    while proposed:
        progress = begin("comparing pairs", len(evidence) + len(proposed))
        for rows in sorted(proposed, key=_in_blocks):
            known = _with_durations(replace(proposed[rows], cosine=cosine_of(*rows)), durations_s)
            before = recall(*rows)
            if before is None:
                found = _weigh(known, *map(looks_of, rows))
                remember(found)
            else:
                found = replace(before, **{name: getattr(known, name) for name in OF_THE_LIST})
            if own_rows is not None and rows[1] >= own_rows and fingerprints[rows[1]] is None:
                found = replace(found, is_unseen=found.cosine >= strict_cosine)
            evidence[rows] = found
            verdict, _ = found.judge(rules)
            for row in rows:
                nearest[row] = np.fmax(nearest[row], found.score)
            if verdict == Verdict.DUPLICATE or (verdict == Verdict.EXCERPT and not keeps_excerpts):
                excerpt = found.excerpt if verdict == Verdict.EXCERPT else ""
                pairs.append(Pair(first=rows[0], second=rows[1], similarity=found.score_under(rules), excerpt=excerpt))
            progress(1)
        choose = choose_knowing(_find_marks(pairs, evidence))
        missing = _pairs_with_kept(pairs, rules.min_score, choose) - evidence.keys()
        proposed = {
            rows: Evidence(first=rows[0], second=rows[1]) for rows in missing if own_rows is None or rows[0] < own_rows
        }
    return Weighed(
        pairs=tuple(sorted(pairs)),
        nearest=nearest,
        floor=rules.min_score,
        searched_deeper=scored.searched_deeper,
        evidence=evidence,
    )


def compare_pair(first: Fingerprint, second: Fingerprint, *, durations_s: Sequence[float]) -> Evidence:
    """What the pictures of two videos say, whether or not anything proposed them; `first` stands for row 0 and
    `second` for row 1."""
    return _weigh(_with_durations(Evidence(first=0, second=1), durations_s), _Looks(first), _Looks(second))


def _with_durations(evidence: Evidence, durations_s: Sequence[float]) -> Evidence:
    shorter, longer = sorted((durations_s[evidence.first], durations_s[evidence.second]))
    return replace(evidence, duration_ratio=shorter / longer if longer else math.nan, longest_s=longer or math.nan)


def _in_blocks(rows: tuple[int, int]) -> tuple[int, int, int, int]:
    """What to sort pairs by for videos to be at hand when they are wanted: within a square of the table of all pairs
    each video is loaded once, and along a row of it once for each pair."""
    first, second = rows
    side = FINGERPRINTS_AT_HAND // 2
    return first // side, second // side, first, second


def _find_marks(pairs: Iterable[Pair], evidence: Mapping[tuple[int, int], Evidence]) -> Marks:
    def rows(side_of: Callable[[Evidence], Side]) -> AbstractSet[int]:
        sides = ((pair, side_of(evidence[pair.first, pair.second])) for pair in pairs if evidence)
        return {pair.first if side == "first" else pair.second for pair, side in sides if side}

    return Marks(overlaid=rows(lambda one: one.overlay), framed=rows(lambda one: one.framed))


def _nearest_pairs(pairs: Sequence[Pair], *, most: int) -> list[Pair]:
    """Those that are among the `most` nearest of one of their videos: a title card that hundreds share makes hundreds
    of pairs, not all pairs of hundreds."""
    seen: Counter[int] = Counter()
    near = []
    for pair in sorted(pairs, key=lambda pair: (-pair.similarity, pair)):
        if min(seen[pair.first], seen[pair.second]) < most:
            near.append(pair)
        seen.update((pair.first, pair.second))
    return near


def _pairs_with_kept(pairs: Sequence[Pair], threshold: float, choose: Choose) -> set[tuple[int, int]]:
    """Each video with the others that are kept of those that hang together with it."""
    groups = group_copies(pairs, threshold=threshold, choose=choose)
    kept_of = {row: group.kept for group in groups for row in (group.kept, *group.copies)}
    wanted = set()
    for rows in components(neighbours((pair.first, pair.second) for pair in pairs)):
        kept = {kept_of.get(row, row) for row in rows}
        wanted |= {(min(row, one), max(row, one)) for row in rows for one in kept if row != one}
    return wanted


def _weigh(proposed: Evidence, first: _Looks | None, second: _Looks | None) -> Evidence:
    if first is None or second is None:
        return proposed
    # Which one comes first in the list must not decide what is found.
    if is_exchanged := _content(second.fingerprint) < _content(first.fingerprint):
        first, second = second, first
    found = _compare(proposed, first, second)
    return found.exchanged() if is_exchanged else found


def _content(fingerprint: Fingerprint) -> tuple[int, bytes]:
    return len(fingerprint.times_s), fingerprint.miniatures[0].tobytes() + fingerprint.descriptors[:8].tobytes()


def _compare(proposed: Evidence, one: _Looks, other: _Looks) -> Evidence:
    first, second = one.fingerprint, other.fingerprint
    # Of most pairs no two pictures agree in any orientation, and one look says so.
    distances = count_differing_bits(one.hashes.reshape(-1, one.hashes.shape[2]), other.hashes[0])
    has_near = (distances <= MAX_DISTANCE_BITS).reshape(len(one.hashes), -1).any(axis=1)
    found: dict[int, Stretch] = {}
    for orientation in np.flatnonzero(has_near):
        stretch = align(
            one.hashes[orientation],
            other.hashes[0],
            first_times_s=first.times_s,
            second_times_s=second.times_s,
            first_weights=first.weights,
            second_weights=second.weights,
            max_distance=MAX_DISTANCE_BITS,
        )
        if stretch is not None:
            found[int(orientation)] = stretch
    best = max(found, key=lambda orientation: found[orientation].strength, default=0)
    course = one.course.turned(best) if best else one.course
    pictures = found.get(best)
    if pictures is not None:
        pictures = replace(pictures, correlation=correlate_stretch(course, other.course, pictures))
    evidence = replace(
        proposed,
        pictures=pictures,
        # Where no picture agrees, movement has nothing to contradict: only one that is alike counts.
        changes=compare_courses(
            course,
            other.course,
            lowest=-1.0 if pictures is not None else ALIKE,
            known_speed=pictures.speed if pictures is not None else 1.0,
        ),
        fewest_pictures=min(len(first.times_s), len(second.times_s)),
        is_exact=pictures is not None and _is_same(first, second),
    )
    if not (evidence.is_settled or evidence.is_settled_by_changes):
        evidence = _ask_all(evidence, first, second)
    return replace(
        evidence,
        overlay=_find_overlay(evidence, first, second, is_turned=bool(best)),
        difference=_find_difference(evidence, first, second, orientation=best),
        framed=_find_framed(evidence, first, second),
    )


def _find_framed(evidence: Evidence, first: Fingerprint, second: Fingerprint) -> Side:
    registration = evidence.registration
    if registration is None or evidence.best[0] not in (Rule.REGISTERED, Rule.REGISTERED_CHANGES):
        return ""
    overlap = find_overlap(first, second, registration)
    for side, video, laid in (("second", second, overlap), ("first", first, overlap.exchanged())):
        width_px, height_px = video.size_px
        left, top, right, bottom = laid.region
        inside = (left / width_px, top / height_px, right / width_px, bottom / height_px)
        if is_frame(video.miniatures, inside):
            return "first" if side == "first" else "second"
    return ""


def _find_difference(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, orientation: int) -> Region | None:
    """The part of the picture that differs throughout, where what agrees would decide, in the way to lay the
    pictures on one another that fits best."""
    rule, stretch = evidence.best
    if rule not in DECIDING_RULES or stretch is None:
        return None
    return find_difference(max(_lay_all(evidence, first, second, orientation=orientation), key=measure_fit))


def _lay_all(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, orientation: int) -> Iterator[Laid]:
    """What both videos show at the same times, in each way to lay the pictures on one another and the times beside one
    another that speaks for them: in a scene that hardly moves, pictures agree at any time."""
    rule, stretch = evidence.best
    # One that compares fewer pictures says less.
    fewest = WORTH_COMPARING * stretch.compared if stretch is not None else 0
    moving = [
        one.stretch
        for one in (evidence.changes, evidence.registered_changes)
        if one is not None and one.moves and one.stretch.compared >= fewest
    ]
    stretches = [one for one in (stretch, *moving) if one is not None]
    only_changes = rule in (Rule.CHANGES, Rule.REGISTERED_CHANGES)
    if rule not in (Rule.REGISTERED, Rule.REGISTERED_CHANGES):
        own, stills = turn_pictures(first.miniatures, orientation), turn_pictures(first.unpack_stills(), orientation)
        squares = _as_squares(stills), _as_squares(second.unpack_stills())
        for one in stretches:
            yield _beside(one, first, second, (own, second.miniatures), squares, only_changes=only_changes)
    known = evidence.registration
    ways = [known] if known is not None else (register(first, second, mirrored=way) for way in (False, True))
    for registration in ways:
        if registration is None:
            continue
        overlap = find_overlap(first, second, registration)
        miniatures = warp_miniatures(first, second, overlap)
        squares = warp_stills(first, second, overlap, side_px=STILL_PX)
        for one in stretches:
            yield _beside(one, first, second, miniatures, squares, only_changes=only_changes)


_Both = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _beside(
    stretch: Stretch,
    first: Fingerprint,
    second: Fingerprint,
    miniatures: _Both,
    stills: _Both,
    *,
    only_changes: bool,
) -> Laid:
    places, other_places = stretch.pictures_beside(first.times_s, second.times_s)
    is_simultaneous = bool(abs(stretch.offset_s) <= SAME_MOMENT_S) and not stretch.further
    at_s = stretch.shown_in_second(first.times_s)[places]
    if stretch.is_sparse:
        # What is shown between pictures that are seconds apart is not known.
        is_same = np.abs(second.times_s[other_places] - at_s) <= SAME_MOMENT_S
        is_simultaneous &= bool(is_same.any())
        if is_simultaneous:
            places, other_places = places[is_same], other_places[is_same]
        at_s = second.times_s[other_places]
    chosen, other_chosen = stretch.shown_beside(
        first.still_times_s, second.still_times_s, tolerance_s=OFFSET_TOLERANCE_S
    )
    if stretch.is_sparse:
        # Key frames often stand at a cut, and the still of the other video before it.
        kept = np.flatnonzero(show_the_same(stills[0][chosen], stills[1][other_chosen]))
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), MOST_STILLS_BESIDE)).round().astype(int))]
        chosen, other_chosen = chosen[kept], other_chosen[kept]
    apart_s = second.still_times_s[other_chosen] - stretch.shown_in_second(first.still_times_s)[chosen]
    return Laid(
        miniatures=(miniatures[0][places], _shown_at(at_s, miniatures[1], second.times_s)),
        stills=(stills[0][chosen], stills[1][other_chosen]),
        only_changes=only_changes,
        is_simultaneous=is_simultaneous,
        # Two speeds are known only nearly, and so is what is one moment in both.
        apart_s=apart_s if stretch.speed == 1.0 else np.full_like(apart_s, np.inf),
    )


def _shown_at(
    at_s: NDArray[np.float32], pictures: NDArray[np.uint8], times_s: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a video shows at these times, between two pictures some of both: copies are not looked at at the same
    moments."""
    after = np.clip(np.searchsorted(times_s, at_s), 1, max(1, len(times_s) - 1)).clip(max=len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    gaps_s = np.maximum(times_s[after] - times_s[before], 1e-6)
    share = np.clip((at_s - times_s[before]) / gaps_s, 0, 1)[:, None, None]
    return np.asarray(pictures[before] * (1 - share) + pictures[after] * share, np.float32)


def _as_squares(stills: NDArray[np.uint8]) -> NDArray[np.uint8]:
    squares = [resize_frame(still, (STILL_PX, STILL_PX)) for still in stills]
    return np.array(squares, np.uint8).reshape(-1, STILL_PX, STILL_PX)


def _find_overlay(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, is_turned: bool) -> Side:
    rule, stretch = evidence.best
    if rule not in DECIDING_RULES or stretch is None or stretch.speed != 1.0:
        return ""
    own, others = first.miniatures, second.miniatures
    if rule in (Rule.REGISTERED, Rule.REGISTERED_CHANGES):
        assert evidence.registration is not None
        own, others = warp_miniatures(first, second, evidence.registration)
    elif is_turned:
        return ""
    places, other_places = stretch.pictures_beside(first.times_s, second.times_s)
    return find_overlay(own[places], others[other_places])


def _ask_all(evidence: Evidence, first: Fingerprint, second: Fingerprint) -> Evidence:
    """The second opinion that finds most, of the second video as it is and of the mirrored first one."""
    plain = _ask_second(evidence, first, second, mirrored=False)
    # No two pictures lie on one another both ways.
    if plain.is_laid:
        return plain
    return max(
        (plain, _ask_second(evidence, first, second, mirrored=True)),
        key=lambda found: (
            found.is_laid,
            found.registered.strength if found.registered else -1.0,
            found.registration.points if found.registration else 0,
        ),
    )


def _ask_second(evidence: Evidence, first: Fingerprint, second: Fingerprint, *, mirrored: bool) -> Evidence:
    """Lay the pictures of two videos on one another, and compare what both show."""
    registration = register(first, second, mirrored=mirrored)
    if registration is None:
        return evidence
    laid_first, laid_second = warp_miniatures(first, second, registration)
    registered = align(
        hash_pictures(laid_first),
        hash_pictures(laid_second),
        first_times_s=first.times_s,
        second_times_s=second.times_s,
        first_weights=first.weights,
        second_weights=second.weights,
        max_distance=MAX_REGISTERED_DISTANCE_BITS,
    )
    course, other = (
        trace_course(laid, times_s=one.times_s, weights=one.weights)
        for laid, one in ((laid_first, first), (laid_second, second))
    )
    if registered is not None:
        registered = replace(registered, correlation=correlate_stretch(course, other, registered))
    return replace(
        evidence,
        registration=registration,
        registered=registered,
        registered_changes=compare_courses(
            course, other, known_speed=registered.speed if registered is not None else 1.0
        ),
    )


def _is_same(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two videos were decoded to the very same pictures, whatever file they came in."""
    return (
        np.array_equal(first.miniatures, second.miniatures)
        and np.array_equal(first.times_s, second.times_s)
        and np.array_equal(first.descriptors, second.descriptors)
    )


COLUMNS = {
    "verdict": "duplicate; excerpt: the copy is contained in the kept video; review: a person should look at it",
    "rule": "what decided",
    "score": "how surely the two are the same video, 0 to 1; the cosine where that decides alone",
    "frames_agreeing": "pictures that agree at the same times",
    "frames_compared": "pictures compared in the part that both share, in the video where fewer of them agree",
    "offset_s": "how many seconds later the copy shows what the kept video shows",
    "speed": "how many times as fast the copy runs",
    "kept_coverage": "share of the kept video that both show",
    "copy_coverage": "share of the copy that both show",
    "kept_from_s": "where that part begins in the kept video, in seconds; of several, after a re-cut, the longest",
    "kept_to_s": "where it ends there",
    "second_opinion": "share of pictures that agree when laid on one another by local features; empty: not checked",
    "points": "local features that agree on how the two pictures lie on one another; empty: not checked",
    "changes": "how alike both videos change in that part, -1 to 1: correlation of coarse shapes; empty: not checked",
    "differs": "the part of the picture that differs throughout: its place and its share of the picture; empty: none",
    "cosine": "how alike frames of both are by the encoder's vectors, -1 to 1; empty: one of them has none",
    "duration_ratio": "the shorter duration divided by the longer",
    "next_score": "score of the nearest video outside its group",
}
"""What the columns of duplicates.csv and review.csv say of two videos; in review.csv, kept is the one first in the
list."""


def describe_evidence(weighed: Weighed, *, kept: int, copy: int, rules: Rules) -> dict[str, object]:
    """What speaks for two videos being the same, by the names of `COLUMNS` without `next_score`."""
    evidence = weighed.about(kept, copy)
    row: dict[str, object] = dict.fromkeys(name for name in COLUMNS if name != "next_score")
    if evidence is None:
        similarity = weighed.similarity_of(kept, copy)
        # Only a person brings together what was never compared.
        is_same = similarity is None or is_match(similarity, rules.min_score)
        return row | {
            "verdict": str(Verdict.DUPLICATE if is_same else Verdict.DIFFERENT),
            "rule": str(Rule.PERSON if similarity is None else Rule.COSINE),
            "score": similarity,
        }
    verdict, rule = evidence.judge(rules)
    row |= {
        "verdict": str(verdict),
        "rule": str(rule),
        "score": evidence.score_under(rules),
        "differs": str(evidence.difference) if evidence.difference is not None else None,
        "cosine": _known(evidence.cosine),
        "duration_ratio": _known(evidence.duration_ratio),
    }
    _, stretch = evidence.best
    if stretch is not None:
        first, second = (
            (stretch.first_start_s, stretch.first_end_s, stretch.first_coverage),
            (stretch.second_start_s, stretch.second_end_s, stretch.second_coverage),
        )
        of_kept, of_copy = (first, second) if kept < copy else (second, first)
        row |= {
            "frames_agreeing": stretch.agreeing,
            "frames_compared": stretch.compared,
            "offset_s": round(of_copy[0] - of_kept[0], 2),
            "speed": round(stretch.speed if kept < copy else 1 / stretch.speed, 3),
            "kept_coverage": round(of_kept[2], 3),
            "copy_coverage": round(of_copy[2], 3),
            "kept_from_s": round(of_kept[0], 2),
            "kept_to_s": round(of_kept[1], 2),
            "changes": _known(stretch.correlation),
        }
    if evidence.registration is not None:
        agreement = evidence.registered.agreement if evidence.registered is not None else 0.0
        row |= {"second_opinion": round(agreement, 4), "points": evidence.registration.points}
    return row


def find_next_score(weighed: Weighed, *, row: int, group: Collection[int]) -> float | None:
    """How near the nearest video outside its group is to one, None where it was compared with none."""
    others = weighed.neighbours_of.get(weighed.shown_by.get(row, row), {})
    return max((similarity for other, similarity in others.items() if other not in group), default=None)


def find_doubtful(
    weighed: Weighed, *, rules: Rules, groups: Sequence[Group], decided: Collection[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Pairs of rows for a person to look at, the most uncertain first: criteria that contradict each other, and
    excerpts that were not removed. Pairs that share a group or were `decided` are left out."""
    group_of = {row: group.number for group in groups for row in (group.kept, *group.copies)}
    doubtful = []
    for rows, evidence in weighed.evidence.items():
        verdict, _ = evidence.judge(rules)
        # A row without a group stands for itself.
        first, second = (group_of.get(row, -row) for row in rows)
        if verdict not in (Verdict.REVIEW, Verdict.EXCERPT) or rows in decided or first == second:
            continue
        doubtful.append((verdict != Verdict.REVIEW, abs(evidence.score - rules.min_score), rows))
    return [rows for *_, rows in sorted(doubtful)]


def _known(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 4)
