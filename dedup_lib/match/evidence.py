"""The evidence of a pair: everything measured, and the verdict that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.geometry import Registration
from dedup_lib.match.moments import SameMoments
from dedup_lib.match.motion import MotionMatch
from dedup_lib.match.overlay import Side
from dedup_lib.match.regions import Region
from dedup_lib.match.score import AGAINST, compute_score, count_as_share
from dedup_lib.match.sound import SoundMatch

MIN_AGREEING = 3
"""Minimum number of agreeing frames for a proof."""

MAX_FEW_FRAMES_S = 1.0
"""Maximum duration, in seconds, of two videos for which fewer frames suffice, if one of them has no more."""

SAME_DURATION = 0.98
"""Minimum ratio of the two durations for which fewer frames suffice, if they are identical."""

MIN_CORRELATION = 0.5
"""Motion contradicts agreeing frames if it correlates less than this at every offset. Copies change alike, two takes
of one scene do not."""

FULL_AGREEMENT = 0.9
MIN_CORRELATION_OF_LOOSE = 0.65
"""If a smaller share of the frames agrees, motion must correlate with this, unlike in two recordings of one program."""

MIN_TO_CONTRADICT = 5
"""Minimum number of compared frames for such a contradiction."""

OVERWHELMING_AGREEMENT = 0.5
"""Minimum share of agreeing frames that decide alone, without a second opinion."""

OVERWHELMING_AGREEING = 6
"""Minimum number of agreeing frames that decide alone; fewer must be both close and varied."""

MIN_REGISTERED_INLIERS = 12
"""Minimum number of inliers of a geometric match."""

MIN_REGISTERED_SHARE = 0.3
"""Minimum share of a frame that a geometric match covers: a shared logo or caption covers less."""

MIN_CONFIRMING_INLIERS = 30
"""Minimum number of inliers that confirm agreeing frames."""

CONFIRMING_FRACTION = 0.3
"""Minimum share of inliers among the matched keypoints that confirm agreeing frames."""

SETTLED_SHARE = 0.8
"""Minimum share of both videos that agrees without need of a second opinion."""

MIN_CONTAINED_SHARE = 0.9
"""Minimum share of the shorter video that makes it an excerpt of the longer."""

MIN_AGREEMENT = 0.3
"""Minimum share of agreeing frames in the common part."""

MIN_COMMON_SHARE = 0.5
"""Minimum share of the longer video that duplicates have in common."""

FULL_SCENES = 5
"""Number of scene changes among agreeing frames from which more do not raise the score."""

OF_THE_LIST = ("first", "second", "cosine", "is_unseen", "duration_ratio", "longest_s")
"""Fields of `Evidence` that come from the list and not from the fingerprints of the pair."""


class Verdict(StrEnum):
    """The decision about two videos."""

    DUPLICATE = "duplicate"
    EXCERPT = "excerpt"
    """One of them is contained in the other."""
    REVIEW = "review"
    """The criteria contradict each other: a person should look."""
    DIFFERENT = "different"


class Criterion(StrEnum):
    """The rule that decided."""

    EXACT = "identical frames"
    FRAMES = "frames agree"
    CONFIRMED = "frames agree, inliers confirm"
    REGISTERED = "frames agree when aligned by inliers"
    MOTION = "motion agrees"
    REGISTERED_MOTION = "motion agrees when aligned by inliers"
    SHORT = "only a part is shared"
    UNCONFIRMED = "frames agree, inliers or motion do not"
    DIFFERS = "a region differs throughout"
    SOUND = "the sound differs"
    MOMENTS = "other frames at the same moments"
    UNLIKE = "frames are unlike by the encoder"
    ALIKE = "frames are alike by the encoder, but do not agree in time"
    WEAK = "too few frames agree"
    PERSON = "a person's decision"
    COSINE = "cosine"


DECIDING_CRITERIA = (
    Criterion.FRAMES,
    Criterion.CONFIRMED,
    Criterion.REGISTERED,
    Criterion.MOTION,
    Criterion.REGISTERED_MOTION,
)
"""The criteria by which a share of agreeing frames may decide."""
PROVING_CRITERIA = (Criterion.EXACT, *DECIDING_CRITERIA)


Versions = Literal["review", "remove", "keep"]


@dataclass(frozen=True, kw_only=True)
class MatchThresholds:
    """The thresholds of a verdict. Loosening one (lowering it) never loses a match."""

    min_score: float
    """Minimum score of two videos that are the same."""
    review_from: float
    """Minimum score from which a person should look, up to `min_score`."""
    versions: Versions = "review"
    """Two videos that are the same but for a part of the frame that differs throughout, for some moments, or for their
    sound: a person should look ("review"), they are the same ("remove"), or they are different ("keep")."""
    unlike_below: float = -1.0
    """A person should look at duplicates whose `cosine` is below this."""
    alike_from: float = math.inf
    """A person should look at videos whose `cosine` is at least this, though their frames prove nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was found about two videos, by their rows in the list (`first` < `second`). No threshold changes it.

    A long list has a million of them. So they have no dictionary, and keep of what is computed only what takes longest.
    """

    first: int
    second: int
    cosine: float = float("nan")
    """Similarity of the frames by the encoder's vectors: the mean, over the frames of one video, of the cosine to the
    nearest frame of the other. The larger of both directions counts. NaN without vectors."""
    frames: AlignedSegment | None = None
    """The aligned segment of the frames as they are."""
    registered: AlignedSegment | None = None
    """The aligned segment of the frames after alignment by geometry."""
    registration: Registration | None = None
    motion: MotionMatch | None = None
    """How similarly both change; None if not computed, or if one is too short."""
    registered_motion: MotionMatch | None = None
    """How similarly both change after alignment by geometry."""
    overlay: Side = ""
    """Which of the two shows a logo or similar overlay that the other lacks; "" if unknown."""
    difference: Region | None = None
    """The part of the frame that differs throughout, however much agrees."""
    sound: SoundMatch | None = None
    """How alike both sound where their frames agree; None if not compared, as where one of them is silent."""
    moments: SameMoments | None = None
    """What both show at the same moments; None if not compared, or if these are not known."""
    inset: Side = ""
    """Which of the two shows the other inside a larger frame that stands still around it."""
    is_exact: bool = False
    is_unseen: bool = False
    """Whether one of the two is known only by its vectors, and these are as similar as those of copies."""
    min_frames: int = 0
    """Number of frames of the video that has fewer."""
    duration_ratio: float = float("nan")
    """Duration of the shorter video divided by that of the longer."""
    longest_s: float = float("nan")
    """Duration of the longer video, in seconds."""
    _best: tuple[Criterion, AlignedSegment | None] | None = field(default=None, init=False, repr=False, compare=False)
    _score: float | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def is_enough(self) -> bool:
        """Whether enough frames agree for a proof."""
        return self._has_enough(self.frames)

    def _has_enough(self, segment: AlignedSegment | None) -> bool:
        if segment is None:
            return False
        fewest = MIN_AGREEING if self.longest_s > MAX_FEW_FRAMES_S else min(MIN_AGREEING, self.min_frames)
        return segment.agreeing >= fewest or self._is_short_pair(segment)

    def _is_short_pair(self, segment: AlignedSegment) -> bool:
        """Whether one video has only two frames, of two scenes, and the other shows nearly identical ones."""
        return (
            segment.agreeing == self.min_frames == segment.scenes == 2
            and segment.is_close
            and self.duration_ratio * self.longest_s <= MAX_FEW_FRAMES_S
        )

    def _proves(self, segment: AlignedSegment | None) -> bool:
        """Whether enough frames agree, and they are close and varied. One of the two suffices unless motion
        contradicts it."""
        if segment is None or not self._has_enough(segment) or self._is_loose(segment):
            return False
        is_both, is_either = segment.is_close and segment.is_varied, segment.is_close or segment.is_varied
        return is_both or (is_either and not self._is_contradicted(segment, MIN_CORRELATION))

    def _is_loose(self, segment: AlignedSegment) -> bool:
        """Whether many frames do not agree, and motion does not support those that do."""
        return segment.agreement < FULL_AGREEMENT and self._is_contradicted(segment, MIN_CORRELATION_OF_LOOSE)

    def _is_contradicted(self, segment: AlignedSegment, lowest: float) -> bool:
        """Whether the frames are similar, but their motion correlates less than this in any alignment."""
        motions = [one for one in (self.motion, self.registered_motion) if one is not None and one.moves]
        known = [one.segment.correlation for one in motions if one.segment.compared >= MIN_TO_CONTRADICT]
        # In one scene, frames agree at any offset, and the segment may be misplaced.
        if segment.is_varied:
            known.append(segment.correlation)
        return bool(known) and bool(np.fmax.reduce(known) < lowest)

    @property
    def is_overwhelming(self) -> bool:
        """Whether the frames decide without a second opinion."""
        return (
            self.frames is not None
            and self._proves(self.frames)
            and self.frames.agreement >= OVERWHELMING_AGREEMENT
            and (
                self.frames.agreeing >= OVERWHELMING_AGREEING
                or (self.frames.agreeing >= MIN_AGREEING and self.frames.is_close and self.frames.is_varied)
            )
        )

    @property
    def is_settled(self) -> bool:
        """Whether a second opinion could change nothing: the segment covers nearly all of one video or most of both."""
        if self.frames is None or not self.is_overwhelming:
            return False
        shares = self.frames.first_coverage, self.frames.second_coverage
        return max(shares) >= MIN_CONTAINED_SHARE or min(shares) >= SETTLED_SHARE

    @property
    def is_settled_by_changes(self) -> bool:
        """Whether both videos change alike nearly throughout. Keypoints could then add nothing."""
        return (
            self.motion is not None
            and self.motion.is_alike
            and min(self.motion.segment.first_coverage, self.motion.segment.second_coverage) >= SETTLED_SHARE
        )

    @property
    def has_geometric_match(self) -> bool:
        """Whether enough keypoints agree on one geometric alignment of both videos, and cover enough of a frame."""
        return (
            self.registration is not None
            and self.registration.inliers >= MIN_REGISTERED_INLIERS
            and max(self.registration.first_share, self.registration.second_share) >= MIN_REGISTERED_SHARE
        )

    @property
    def is_registered(self) -> bool:
        """Whether the frames, aligned by geometry, suffice for a decision."""
        return self.has_geometric_match and self._proves(self.registered)

    @property
    def is_confirmed(self) -> bool:
        """Whether the second opinion supports the agreement of the frames as they are."""
        return self._proves(self.frames) and (
            self.is_registered
            or (
                self.has_geometric_match
                and self.registration is not None
                and self.registration.inliers >= MIN_CONFIRMING_INLIERS
                and self.registration.inliers >= CONFIRMING_FRACTION * self.registration.matches
            )
        )

    @property
    def best(self) -> tuple[Criterion, AlignedSegment | None]:
        """The strongest segment that is allowed to decide, and its rule."""
        best = self._best or self._find_best()
        object.__setattr__(self, "_best", best)
        return best

    def _find_best(self) -> tuple[Criterion, AlignedSegment | None]:
        allowed: list[tuple[float, Criterion, AlignedSegment]] = []
        if self.is_exact and self.frames is not None and (self.is_enough or self.duration_ratio >= SAME_DURATION):
            return Criterion.EXACT, self.frames
        if self.frames is not None and self.is_enough and (self.is_overwhelming or self.is_confirmed):
            criterion = Criterion.FRAMES if self.is_overwhelming else Criterion.CONFIRMED
            allowed.append((self.frames.strength, criterion, self.frames))
        if self.registered is not None and self.is_registered:
            allowed.append((self.registered.strength, Criterion.REGISTERED, self.registered))
        # Motion has nothing to add where frames are nearly identical throughout, nor where it does not support them.
        is_loose = self.is_enough and self.frames is not None and self.frames.is_close and self._is_loose(self.frames)
        is_open = not is_loose and not any(
            one.is_close
            and one.agreement >= OVERWHELMING_AGREEMENT
            and min(one.first_coverage, one.second_coverage) >= SETTLED_SHARE
            for _, _, one in allowed
        )
        if is_open and self.motion is not None and self.motion.is_alike:
            allowed.append((self.motion.segment.strength, Criterion.MOTION, self.motion.segment))
        if (
            is_open
            and self.has_geometric_match
            and self.registered_motion is not None
            and self.registered_motion.is_alike
        ):
            segment = self.registered_motion.segment
            allowed.append((segment.strength, Criterion.REGISTERED_MOTION, segment))
        if not allowed:
            doubtful = [self.frames] if self.is_enough else []
            if self.has_geometric_match and self._has_enough(self.registered):
                doubtful.append(self.registered)
            if not doubtful:
                return (Criterion.WEAK, self.frames) if self.frames is not None else _NOTHING
            return Criterion.UNCONFIRMED, max(doubtful, key=lambda segment: segment.strength if segment else 0.0)
        return max(allowed, key=lambda one: one[0])[1:]

    @property
    def common_shares(self) -> tuple[float, float]:
        """The shares of both videos that the segment covers, the smaller one first."""
        _, segment = self.best
        if segment is None:
            return 0.0, 0.0
        less, more = sorted((segment.first_coverage, segment.second_coverage))
        return less, more

    @property
    def is_whole(self) -> bool:
        """Whether the segment covers most of the longer video, or nearly all of the shorter one."""
        less, more = self.common_shares
        return less >= MIN_COMMON_SHARE or more >= MIN_CONTAINED_SHARE

    @property
    def is_proven(self) -> bool:
        """Whether one of the criteria holds for enough of the two videos."""
        criterion, segment = self.best
        return (
            criterion in PROVING_CRITERIA
            and segment is not None
            and segment.agreement >= MIN_AGREEMENT
            and self.is_whole
        )

    @property
    def is_version(self) -> bool:
        """Whether a part of the frame or the sound differs throughout, or the frames at times, however much agrees."""
        return self.difference is not None or any(one and one.is_other for one in (self.sound, self.moments))

    @property
    def _why_version(self) -> Criterion:
        if self.difference is not None:
            return Criterion.DIFFERS
        return Criterion.MOMENTS if self.moments is not None and self.moments.is_other else Criterion.SOUND

    @property
    def terms(self) -> Mapping[str, float]:
        """The inputs of the score, by the names of `score.TERMS`."""
        seen = [one for one in (self.frames, self.registered if self.has_geometric_match else None) if one is not None]
        moved = [
            one.segment.correlation
            for one in (self.motion, self.registered_motion if self.has_geometric_match else None)
            if one is not None and one.moves and one.segment.compared >= MIN_TO_CONTRADICT
        ]
        moved += [one.correlation for one in seen if not math.isnan(one.correlation)]
        return {
            "criteria": float(self.is_proven),
            "scenes": count_as_share(max((one.scenes for one in seen), default=1) - 1, full=FULL_SCENES),
            "coverage": self.common_shares[1],
            "motion": max([0.0, *moved]),
            "differs": float(self.is_version),
        }

    @property
    def score(self) -> float:
        """Confidence that the two are the same video, 0 to 1."""
        if self._score is None:
            object.__setattr__(self, "_score", self._compute_score(self.terms) if self.best[1] else 0.0)
        return self._score or 0.0

    def _compute_score(self, terms: Mapping[str, float]) -> float:
        criterion, segment = self.best
        if segment is None:
            return 0.0
        is_same = criterion == Criterion.EXACT and self.is_proven and not terms["differs"]
        return 1.0 if is_same else round(compute_score(terms), 7)

    def score_under(self, versions: Versions) -> float:
        """The score; what makes two videos versions of one film does not lower it if versions are removed."""
        if not self.is_version or versions != "remove":
            return self.score
        return self._compute_score({**self.terms, **dict.fromkeys(AGAINST, 0.0)})

    def judge(self, thresholds: MatchThresholds) -> tuple[Verdict, Criterion]:
        """The verdict under `thresholds`, and what decided."""
        if self.is_unseen:
            return Verdict.REVIEW, Criterion.COSINE
        (criterion, _), score = self.best, self.score_under(thresholds.versions)
        if self.is_version and self.is_proven:
            criterion = self._why_version
            if thresholds.versions != "remove":
                return (Verdict.REVIEW if thresholds.versions == "review" else Verdict.DIFFERENT), criterion
        may_join = not self.is_version or thresholds.versions == "remove"
        if may_join and self.is_whole and score >= thresholds.min_score:
            is_duplicate = self.common_shares[0] >= MIN_COMMON_SHARE
            # Excerpts are exempt: the frames of a far longer video may lie elsewhere.
            if is_duplicate and criterion != Criterion.EXACT and self.cosine < thresholds.unlike_below:
                return Verdict.REVIEW, Criterion.UNLIKE
            return (Verdict.DUPLICATE if is_duplicate else Verdict.EXCERPT), criterion
        if criterion in DECIDING_CRITERIA and not self.is_whole:
            return Verdict.DIFFERENT, Criterion.SHORT
        # One or two frames may agree by chance, and a short clip has no more. A small common part may be an intro.
        is_question = criterion != Criterion.WEAK and self.common_shares[1] >= MIN_COMMON_SHARE
        if score >= thresholds.review_from and is_question:
            return Verdict.REVIEW, criterion
        if self.cosine >= thresholds.alike_from:
            return Verdict.REVIEW, Criterion.ALIKE
        return Verdict.DIFFERENT, criterion

    def exchanged(self) -> Evidence:
        """The same evidence with the roles of the two videos exchanged."""
        return replace(
            self,
            frames=self.frames.exchanged() if self.frames is not None else None,
            registered=self.registered.exchanged() if self.registered is not None else None,
            registration=self.registration.exchanged() if self.registration is not None else None,
            motion=self.motion.exchanged() if self.motion is not None else None,
            registered_motion=self.registered_motion.exchanged() if self.registered_motion is not None else None,
            overlay=_OTHER_SIDE[self.overlay],
            difference=self.difference.exchanged() if self.difference is not None else None,
            inset=_OTHER_SIDE[self.inset],
        )

    @property
    def excerpt(self) -> Literal["first", "second"]:
        """Which of the two shows less outside the common segment."""
        _, segment = self.best
        return "first" if segment is not None and segment.first_coverage > segment.second_coverage else "second"


_NOTHING: tuple[Criterion, AlignedSegment | None] = (Criterion.WEAK, None)
"""The best of most pairs. One object for all of them takes less memory."""

_OTHER_SIDE: Mapping[Side, Side] = {"first": "second", "second": "first", "": ""}
