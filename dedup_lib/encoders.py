"""Frames to vectors. One protocol, two encoders: a semantic one (CLIP) and a perceptual hash (PDQ)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pdqhash

from dedup_lib.errors import EncoderError
from dedup_lib.frames import load_picture
from dedup_lib.records import Frames, Vectors
from dedup_lib.run_folder import resolve_path
from dedup_lib.vectors import normalise_rows

DEFAULT_CLIP_MODEL = "openai/clip-vit-base-patch32"

DEFAULT_THRESHOLDS = {"clip": 0.95, "pdq": 1 - 2 * 31 / 256}
"""Cosine from which two videos count as the same, for each encoder.

clip: 0.95, the value for near-duplicates in github.com/openai/CLIP issue 260 (clip-retrieval uses 0.94, immich
0.99). pdq: at most 31 of 256 bits differ, the threshold of the PDQ paper ("The TMK+PDQF Video-Hashing Algorithm
and the PDQ Image-Hashing Algorithm", Facebook 2019).
"""


SWEEP_LOWS = {"clip": 0.8, "pdq": 0.5}
"""Where a threshold sweep starts unless told: below it, pairs of each encoder are unlike by all experience."""


class Encoder(Protocol):
    """Turns frames into unit vectors whose inner product says how alike two frames are."""

    name: str
    model: str
    dimension: int

    def encode_frames(self, frames: Sequence[Frames]) -> Vectors:
        """Vectors float32 (N, D) of N frames, each RGB uint8 (H, W, 3) of any size."""
        ...


def load_encoder(name: str, *, model: str = "", batch_size: int = 32) -> Encoder:
    """The encoder of that name; `model` is a model id or the folder of a saved model (CLIP only).

    Raises EncoderError when the model cannot be loaded.
    """
    if name == "pdq":
        if model:
            raise EncoderError(
                f"model = {model!r}: the encoder pdq has no model; leave model empty or set encoder: clip"
            )
        return PdqEncoder()
    if name == "clip":
        return ClipEncoder(model or DEFAULT_CLIP_MODEL, batch_size=batch_size)
    raise EncoderError(f"there is no encoder {name!r}: choose clip or pdq")


def save_image_embedding(image_path: Path, npy_path: Path, *, encoder: Encoder) -> Vectors:
    """Encode one picture file and save its vector, float32 (D,), as .npy. Returns it as (1, D).

    Raises ValueError when the file is no picture.
    """
    vectors = encoder.encode_frames([load_picture(image_path)])
    np.save(npy_path, vectors[0])
    return vectors


class PdqEncoder:
    """PDQ, a 256-bit perceptual hash (github.com/facebook/ThreatExchange/tree/main/pdq), as a unit vector.

    A set bit is +1/16 and a clear one -1/16, so that cosine = 1 - 2 * hamming / 256.
    """

    name = "pdq"
    model = ""
    dimension = 256

    def encode_frames(self, frames: Sequence[Frames]) -> Vectors:
        if not frames:
            return np.zeros((0, self.dimension), np.float32)
        bits = np.stack([pdqhash.compute(frame)[0] for frame in frames])
        return normalise_rows(bits * 2.0 - 1.0)


class ClipEncoder:
    """The image tower of a CLIP model from transformers, on the GPU where there is one."""

    name = "clip"

    def __init__(self, model: str, *, batch_size: int = 32) -> None:
        # Both take seconds to import and only this class needs them.
        import torch
        from transformers import AutoConfig, CLIPImageProcessorPil, CLIPVisionModelWithProjection

        # It reports the text tower, which is left alone, as so many unexpected weights.
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.model = model
        self._torch = torch
        self._batch_size = batch_size
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = resolve_path(model)
        source = str(folder) if folder.is_dir() else model
        try:
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(source)
            config: Any = AutoConfig.from_pretrained(source)
            if config.model_type == "clip":
                # The width of the vectors stands in the config of the whole model; that of the tower may differ.
                config.vision_config.projection_dim = config.projection_dim
                config = config.vision_config
            loaded: Any = CLIPVisionModelWithProjection.from_pretrained(source, config=config, output_loading_info=True)
        except Exception as error:
            # Every kind of damaged file raises an exception of its own.
            raise EncoderError(_explain(model, folder, error)) from error
        tower, loading = loaded
        # Weights that a file lacks are made up at random, those of a model of another kind too.
        if config.model_type != "clip_vision_model" or loading["missing_keys"]:
            raise EncoderError(
                f"{model} is no CLIP model (model_type {config.model_type}, {len(loading['missing_keys'])} weights "
                "missing): set model to one, or set encoder: pdq, which needs none"
            )
        self._tower = tower.to(self._device).eval()
        self.dimension = int(tower.config.projection_dim)

    def encode_frames(self, frames: Sequence[Frames]) -> Vectors:
        if not frames:
            return np.zeros((0, self.dimension), np.float32)
        parts = []
        with self._torch.inference_mode():
            for start in range(0, len(frames), self._batch_size):
                batch = list(frames[start : start + self._batch_size])
                # Left to guess, it takes the height of a picture three pixels high for its colours.
                pixels = self._processor(images=batch, input_data_format="channels_last", return_tensors="pt")
                embedded = self._tower(pixel_values=pixels["pixel_values"].to(self._device))
                parts.append(embedded.image_embeds.float().cpu().numpy())
        return normalise_rows(np.concatenate(parts))


def _explain(model: str, folder: Path, error: Exception) -> str:
    if folder.is_dir() or not isinstance(error, OSError):
        return f"{model} holds no CLIP model that can be loaded: {_first_line(error)}"
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
    cause = "downloads are switched off (HF_HUB_OFFLINE)" if offline else "it is unknown or the hub cannot be reached"
    return (
        f"the CLIP model {model!r} is not on this machine, and {cause}. Either go online once, or save the model to a "
        "folder and set model to it, or set encoder: pdq, which needs no model"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
