"""What was found about a pair, as text for the ledger: no pair is compared twice.

The text depends on both fingerprints and on the code that compared them, but on no parameter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from dedup_lib.features import fingerprint, perceptual_hash
from dedup_lib.features import sound as sound_fingerprint
from dedup_lib.match import (
    aligned_frames,
    alignment,
    block_motion,
    blocks,
    colours,
    details,
    difference,
    evidence,
    fades,
    geometry,
    moments,
    motion,
    outlines,
    overlay,
    refine,
    regions,
    sound,
    temporal_votes,
    verify,
)
from dedup_lib.match.alignment import AlignedSegment, Part
from dedup_lib.match.evidence import OF_THE_LIST, Evidence
from dedup_lib.match.geometry import Registration
from dedup_lib.match.moments import SameMoments
from dedup_lib.match.motion import MotionMatch
from dedup_lib.match.regions import Region
from dedup_lib.match.sound import SoundMatch
from dedup_lib.media import frames

MODULES = (
    *(aligned_frames, alignment, block_motion, blocks, colours, details, difference, evidence, fades, geometry),
    *(moments, motion, outlines, overlay, refine, regions, sound, temporal_votes, verify),
    *(fingerprint, frames, perceptual_hash, sound_fingerprint),
)
"""The modules that compare two fingerprints."""


@cache
def find_method() -> str:
    """A hash of this code and the versions of its libraries. The text changes whenever results may change."""
    return f"{digest_code(MODULES)[:16]} opencv {cv2.__version__} numpy {np.__version__}"


def digest_code(modules: Iterable[ModuleType]) -> str:
    """A hash of the source of these modules."""
    code = hashlib.sha256()
    for module in modules:
        code.update(Path(str(module.__file__)).read_bytes())
    return code.hexdigest()


def pack_evidence(found: Evidence) -> str:
    """The evidence from the fingerprints of a pair, as JSON."""

    def keep(items: list[tuple[str, Any]]) -> dict[str, Any]:
        # Only the comparison itself needs the corresponding frames. What was computed from the rest is no finding.
        return {name: value for name, value in items if name != "correspondences" and not name.startswith("_")}

    known = {
        name: value
        for name, value in asdict(found, dict_factory=keep).items()
        if name not in OF_THE_LIST and value is not None and value != "" and value is not False
    }
    return json.dumps(known, default=lambda array: array.tolist(), separators=(",", ":"))


def unpack_evidence(text: str) -> Evidence:
    """The evidence in such a text, for rows 0 and 1. Raises ValueError for any other text."""
    try:
        known: dict[str, Any] = json.loads(text)
        for name, make in _PARTS.items():
            if name in known:
                known[name] = make(known[name])
        return Evidence(first=0, second=1, **known)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is no comparison: {error}") from None


def _make_segment(known: Mapping[str, Any]) -> AlignedSegment:
    return AlignedSegment(**{**known, "further": tuple(Part(**part) for part in known["further"])})


def _make_motion(known: Mapping[str, Any]) -> MotionMatch:
    return MotionMatch(**{**known, "segment": _make_segment(known["segment"])})


def _make_registration(known: Mapping[str, Any]) -> Registration:
    return Registration(**{**known, "matrix": np.array(known["matrix"], np.float64), "region": tuple(known["region"])})


def _make_region(known: Mapping[str, Any]) -> Region:
    return Region(**{**known, "in_first": tuple(known["in_first"]), "in_second": tuple(known["in_second"])})


_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "frames": _make_segment,
    "registered": _make_segment,
    "registration": _make_registration,
    "motion": _make_motion,
    "registered_motion": _make_motion,
    "difference": _make_region,
    "sound": lambda known: SoundMatch(**known),
    "moments": lambda known: SameMoments(**known),
}
