"""Evidence put together by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.geometry import Registration
from dedup_lib.match.moments import SameMoments
from dedup_lib.match.motion import MotionMatch
from dedup_lib.match.regions import Region
from dedup_lib.match.sound import SoundMatch


def segment(agreeing: int = 40, compared: int = 40, *, first: float = 1.0, second: float = 1.0) -> AlignedSegment:
    """A segment with enough scenes, from 2 s to 12 s of the first video and from 5 s of the second."""
    return AlignedSegment(
        agreeing=agreeing,
        compared=compared,
        first_start_s=2.0,
        first_end_s=12.0,
        second_start_s=5.0,
        second_end_s=15.0,
        first_coverage=first,
        second_coverage=second,
        speed=1.0,
        distance_bits=10.0,
        scenes=10,
    )


def registration(inliers: int = 200, matches: int = 250, *, share: float = 0.8) -> Registration:
    return Registration(
        matrix=np.eye(2, 3),
        mirrored=False,
        inliers=inliers,
        matches=matches,
        region=(0, 0, 100, 80),
        first_share=share,
        second_share=share,
    )


def changes(
    correlation: float = 0.9, *, weaker_half: float = 0.8, compared: int = 40, energy: float = 0.1
) -> MotionMatch:
    """Over all of both videos."""
    return MotionMatch(
        segment=replace(segment(round(0.9 * compared), compared), correlation=correlation),
        weaker_half=weaker_half,
        energy=energy,
    )


def evidence(frames: AlignedSegment | None = None, **found: object) -> Evidence:
    """Of the first two rows, both with 40 frames."""
    return replace(Evidence(first=0, second=1, frames=frames, min_frames=40), **found)  # type: ignore[arg-type] # its fields, by name


def place(left: float, top: float) -> Region:
    """From there to the lower right corner."""
    box = left, top, 1.0, 1.0
    return Region(left=left, top=top, right=1.0, bottom=1.0, moves=False, in_first=box, in_second=box)


SHARE = st.floats(0, 1)

COVERED = st.floats(0.01, 1)


@st.composite
def segments(draw: st.DrawFn) -> AlignedSegment:
    compared = draw(st.integers(1, 60))
    return replace(
        segment(draw(st.integers(1, compared)), compared, first=draw(COVERED), second=draw(COVERED)),
        scenes=draw(st.integers(1, 6)),
        distance_bits=draw(st.floats(0, 56)),
        correlation=draw(st.just(math.nan) | st.floats(-1, 1)),
    )


CHANGES = st.builds(MotionMatch, segment=segments(), weaker_half=st.floats(-1, 1), energy=st.floats(0, 0.1))

REGISTRATIONS = st.builds(registration, st.integers(8, 60), st.integers(60, 300), share=COVERED)

FOUND = st.builds(
    evidence,
    st.none() | segments(),
    registered=st.none() | segments(),
    registration=st.none() | REGISTRATIONS,
    motion=st.none() | CHANGES,
    registered_motion=st.none() | CHANGES,
    is_exact=st.booleans(),
    min_frames=st.integers(1, 60),
    difference=st.none() | st.builds(place, SHARE, SHARE),
    sound=st.none() | st.builds(SoundMatch, correlation=st.floats(-1, 1), compared_s=st.floats(3, 60)),
    moments=st.none()
    | st.builds(SameMoments, compared=st.just(40), unlike=st.integers(0, 40), distance_bits=st.floats(0, 56)),
)
