"""The encoders by name: SSCD (copies), CLIP (content) and PDQ (a perceptual hash)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dedup_lib.errors import EncoderError
from dedup_lib.features.clip import DEFAULT_CLIP_MODEL, ClipEncoder, check_clip
from dedup_lib.features.encoder import Encoder
from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.features.sscd import DEFAULT_SSCD_MODEL, SscdEncoder, check_sscd
from dedup_lib.media.frames import load_picture
from dedup_lib.records import Vectors
from dedup_lib.settings import check_model

DEFAULT_THRESHOLDS = {"sscd": 0.75, "clip": 0.95, "pdq": 1 - 2 * 31 / 256}
"""Minimum cosine of two videos that count as the same, if the cosine decides alone, for each encoder.

sscd: 0.75, at 90 % precision by its authors (github.com/facebookresearch/sscd-copy-detection). clip: 0.95, the value
for near-duplicates in github.com/openai/CLIP issue 260 (clip-retrieval uses 0.94, immich 0.99). pdq: at most 31 of 256
bits differ, the threshold of the PDQ paper ("The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
Algorithm", Facebook 2019).
"""

SWEEP_LOWS = {"sscd": 0.25, "clip": 0.8, "pdq": 0.5}
"""Default start of a threshold sweep, for each encoder. Below it, pairs are unlike by all experience, and none is
proposed."""


UNLIKE_BELOW = {"sscd": 0.5}
"""Minimum `Evidence.cosine` of videos of about the same length that are removed without asking a person, for each
encoder that can show this. On labelled clips, the lowest of 92 pairs of copies is 0.55, and 54 of 14,101 unlike pairs
reach 0.5."""

ALIKE_FROM = {"sscd": 0.7}
"""Minimum `Evidence.cosine` of videos that a person should look at, whatever else was found. Of the same unlike pairs,
15 reach 0.7."""


def load_encoder(name: str, *, model: str = "", batch_size: int = 32) -> Encoder:
    """The encoder of that name. `model` names its weights (see `SscdEncoder` and `ClipEncoder`); if it is empty, the
    encoder uses its default weights.

    Raises EncoderError if the model cannot be loaded, and SettingError if the encoder has no use for a model.
    """
    check_model(name, model)
    match name:
        case "sscd":
            return SscdEncoder(model or DEFAULT_SSCD_MODEL, batch_size=batch_size)
        case "clip":
            return ClipEncoder(model or DEFAULT_CLIP_MODEL, batch_size=batch_size)
        case "pdq":
            return PdqEncoder()
        case _:
            raise EncoderError(f"encoder = {name!r} cannot be used: choose sscd, clip or pdq")


def check_encoder(name: str, *, model: str = "") -> None:
    """Raises as `load_encoder` would, as far as this is known without loading the model: torch takes seconds."""
    check_model(name, model)
    match name:
        case "sscd":
            check_sscd(model or DEFAULT_SSCD_MODEL)
        case "clip":
            check_clip(model or DEFAULT_CLIP_MODEL)


def save_image_embedding(image_path: Path, npy_path: Path, *, encoder: Encoder) -> Vectors:
    """Encode one image file and save its vector, float32 (D,), as .npy. Returns it as (1, D).

    Raises ValueError if the file is not an image.
    """
    vectors = encoder.encode_frames([load_picture(image_path)])
    np.save(npy_path, vectors[0])
    return vectors
