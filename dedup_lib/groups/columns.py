"""The evidence of a pair as columns of duplicates.csv, review.csv and pairs.parquet."""

from __future__ import annotations

import math
from collections.abc import Collection

from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.scored import is_match
from dedup_lib.match.evidence import Criterion, MatchThresholds, Verdict
from dedup_lib.match.geometry import Registration
from dedup_lib.match.regions import Region

MIN_TURN_DEG = 5
"""Least turn that is said: a smaller one is within the error of a registration."""

COLUMNS = {
    "verdict": "duplicate; excerpt: the copy is contained in the kept video; review: a person should look at it",
    "rule": "what decided",
    "score": "how surely the two are the same video, 0 to 1; the cosine where that decides alone",
    "frames_agreeing": "frames that agree at the same times",
    "frames_compared": "frames compared in the part that both share, in the video where fewer of them agree",
    "offset_s": "how many seconds later the copy shows what the kept video shows",
    "speed": "how many times as fast the copy runs",
    "kept_coverage": "share of the kept video that both show",
    "copy_coverage": "share of the copy that both show",
    "kept_from_s": "where that part begins in the kept video, in seconds; of several, after a re-cut, the longest",
    "kept_to_s": "where it ends there",
    "geometric_agreement": "share of frames that agree once aligned by their inliers; empty: not checked",
    "inliers": "local features that agree on how one frame lies in the other; empty: not checked",
    "transform": "how the frame of the copy lies, if it does not lie as that of the kept video: mirrored, turned",
    "motion_correlation": "how alike both videos change in that part, -1 to 1; empty: not checked",
    "differs": "the region that differs throughout: its place and share of the frame; `only its colour`: all else of "
    "it agrees; empty: none",
    "differs_in_kept": "where that region lies in the frame of the kept video, without bars: left, top, right and "
    "bottom, as shares of the frame",
    "differs_in_copy": "where it lies in the frame of the copy",
    "frames_unlike": "frames that show something else than the other video does at the same moment; empty: not checked",
    "sound_correlation": "how alike both sound in that part, 0 as by chance, 1 the same; empty: not compared",
    "cosine": "how alike frames of both are by the encoder's vectors, -1 to 1; empty: one of them has none",
    "duration_ratio": "the shorter duration divided by the longer",
    "next_score": "score of the nearest video outside its group",
}
"""Meaning of the columns of duplicates.csv and review.csv. In review.csv, the first one in the list counts as kept."""


def describe_evidence(compared: ComparedPairs, *, kept: int, copy: int, rules: MatchThresholds) -> dict[str, object]:
    """The evidence that two videos are the same, by the names of `COLUMNS` without `next_score`."""
    evidence = compared.about(kept, copy)
    row: dict[str, object] = dict.fromkeys(name for name in COLUMNS if name != "next_score")
    if evidence is None:
        similarity = compared.similarity_of(kept, copy)
        # Only a person joins videos that were never compared.
        is_same = similarity is None or is_match(similarity, rules.min_score)
        return row | {
            "verdict": str(Verdict.DUPLICATE if is_same else Verdict.DIFFERENT),
            "rule": str(Criterion.PERSON if similarity is None else Criterion.COSINE),
            "score": similarity,
        }
    verdict, rule = evidence.judge(rules)
    row |= {
        "verdict": str(verdict),
        "rule": str(rule),
        "score": evidence.score_under(rules.versions),
        "frames_unlike": evidence.moments.unlike if evidence.moments is not None else None,
        "sound_correlation": round(evidence.sound.correlation, 4) if evidence.sound is not None else None,
        "cosine": _known(evidence.cosine),
        "duration_ratio": _known(evidence.duration_ratio),
    }
    if evidence.difference is not None:
        row |= _describe_region(evidence.difference if kept < copy else evidence.difference.exchanged())
    _, segment = evidence.best
    if segment is not None:
        segment = segment if kept < copy else segment.exchanged()
        row |= {
            "frames_agreeing": segment.agreeing,
            "frames_compared": segment.compared,
            "offset_s": round(segment.offset_s, 2),
            "speed": round(segment.speed, 3),
            "kept_coverage": round(segment.first_coverage, 3),
            "copy_coverage": round(segment.second_coverage, 3),
            "kept_from_s": round(segment.first_start_s, 2),
            "kept_to_s": round(segment.first_end_s, 2),
            "motion_correlation": _known(segment.correlation),
        }
    if evidence.registration is not None:
        agreement = evidence.registered.agreement if evidence.registered is not None else 0.0
        row |= {"geometric_agreement": round(agreement, 4), "inliers": evidence.registration.inliers}
    if evidence.has_geometric_match and evidence.registration is not None:
        row["transform"] = _describe_transform(evidence.registration) or None
    return row


def find_criterion(
    compared: ComparedPairs, *, kept: int, copy: int, similarity: float, rules: MatchThresholds
) -> Criterion:
    """What makes a copy and the kept video of its group the same, given their similarity (NaN: not compared)."""
    if not is_match(similarity, rules.min_score):
        return Criterion.PERSON
    evidence = compared.about(kept, copy)
    return evidence.judge(rules)[1] if evidence is not None else Criterion.COSINE


def _describe_region(region: Region) -> dict[str, object]:
    of_kept, of_copy = (" ".join(f"{share:.3f}" for share in box) for box in (region.in_first, region.in_second))
    return {"differs": str(region), "differs_in_kept": of_kept, "differs_in_copy": of_copy}


def _describe_transform(registration: Registration) -> str:
    """How one frame lies in the other, in words; "" for upright."""
    turned = f"turned by {registration.rotation_deg}°" if registration.rotation_deg >= MIN_TURN_DEG else ""
    return " and ".join(filter(None, ("mirrored" if registration.mirrored else "", turned)))


def find_next_score(compared: ComparedPairs, *, row: int, group: Collection[int]) -> float | None:
    """Similarity of a row to the nearest video outside its group; None if it was compared with none."""
    others = compared.neighbours_of(compared.shown_by.get(row, row))
    return max((similarity for other, similarity in others.items() if other not in group), default=None)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 4)
