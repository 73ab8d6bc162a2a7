"""CLIP: a vector of what a frame shows, by transformers and torch."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dedup_lib.errors import EncoderError
from dedup_lib.features.encoder import Encoder, Prepared
from dedup_lib.media.frames import cut_middle, resize_frame
from dedup_lib.records import Frames, Vectors
from dedup_lib.run.cores import count_cores
from dedup_lib.run.paths import resolve_path

DEFAULT_CLIP_MODEL = "openai/clip-vit-base-patch32"

_MODEL_FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    (
        *("model.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ),
)
"""Files in the folder of a CLIP model: at least one of each entry."""

_HUB_TIMEOUT_S = 10.0

_PATH_STARTS = ("/", "~", ".")
"""Only a path starts with one of these, never the id of a model."""


def check_clip(model: str) -> None:
    """Raises as `ClipEncoder` would, without loading the model, because torch takes seconds. It only checks the files
    of the model, or whether the model can be fetched."""
    folder = resolve_path(model)
    cached = folder if folder.is_dir() else _find_cached(model)
    if cached is None:
        _ask_hub(model, folder)
        return
    try:
        kind = json.loads((cached / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise EncoderError(_explain(model, cached, error)) from error
    if kind not in ("clip", "clip_vision_model"):
        raise EncoderError(_describe_other_kind(model, f"model_type {kind}"))
    for names in _MODEL_FILES:
        if not any((cached / name).exists() for name in names):
            raise EncoderError(_explain(model, cached, FileNotFoundError(f"it lacks {names[0]}")))


def _find_cached(model: str) -> Path | None:
    """The folder in which the hub's library keeps this model; None if a file is missing."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if all(any((folder / name).exists() for name in names) for names in _MODEL_FILES) else None


def _ask_hub(model: str, folder: Path) -> None:
    """Raises EncoderError if the hub cannot be reached, or does not know the model."""
    from huggingface_hub import HfApi

    try:
        if model.startswith(_PATH_STARTS):
            raise FileNotFoundError(folder)
        HfApi().model_info(model, timeout=_HUB_TIMEOUT_S)
    except Exception as error:
        # Each version of the library, and of its HTTP client, raises different exceptions.
        raise EncoderError(_explain(model, folder, OSError(str(error)))) from error


@dataclass(frozen=True, kw_only=True)
class ClipPreparation:
    """Scales a frame so that its shorter side is `side_px`, and cuts out the middle `crop_px` (height, width). A CLIP
    image processor does the same before it scales values. OpenCV takes a fraction of its time."""

    side_px: int
    crop_px: tuple[int, int]

    def __call__(self, frame: Frames) -> Prepared:
        height, width = frame.shape[:2]
        scale = self.side_px / min(height, width)
        # As transformers rounds it.
        size_px = max(self.side_px, int(width * scale)), max(self.side_px, int(height * scale))
        if math.prod(size_px) > _MAX_RESIZED_PX:
            # In a long, thin frame, the part that is cut off afterwards would take all the memory.
            frame = cut_middle(frame, (2 * min(height, width), 2 * min(height, width)))
            return self(frame)
        return np.ascontiguousarray(cut_middle(resize_frame(frame, size_px), self.crop_px))


_MAX_RESIZED_PX = 4096 * 4096


class ClipEncoder(Encoder):
    """The image tower of a CLIP model from transformers, on the GPU if there is one.

    If the device supports bfloat16, matrices are multiplied in bfloat16, in a quarter of the time on a processor. Sums,
    norms and weights stay float32, and vectors agree with those of float32 to a cosine of 0.9999.
    """

    name = "clip"
    uses_gpu = True

    def __init__(self, model: str, *, batch_size: int = 32) -> None:
        # transformers and torch take seconds to import, and only this class needs them.
        from transformers import AutoConfig, CLIPImageProcessorPil, CLIPVisionModelWithProjection

        # transformers reports the unused text tower as unexpected weights.
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.model = model
        self._batch_size = batch_size
        folder = resolve_path(model)
        source = str(folder) if folder.is_dir() else model
        try:
            processor: Any = CLIPImageProcessorPil.from_pretrained(source)
            config: Any = AutoConfig.from_pretrained(source)
            if config.model_type == "clip":
                # The config of the whole model has the width of the vectors. That of the tower may differ.
                config.vision_config.projection_dim = config.projection_dim
                config = config.vision_config
            loaded: Any = CLIPVisionModelWithProjection.from_pretrained(source, config=config, output_loading_info=True)
        except Exception as error:
            # Each kind of damaged file raises a different exception.
            raise EncoderError(_explain(model, folder, error)) from error
        tower, loading = loaded
        # transformers fills missing weights at random, even if the file is a model of another kind.
        if config.model_type != "clip_vision_model" or loading["missing_keys"]:
            found = f"model_type {config.model_type}, missing weights: {len(loading['missing_keys'])}"
            raise EncoderError(_describe_other_kind(model, found))
        self._tower = tower.eval()
        self.dimension = int(tower.config.projection_dim)
        self.prepare = _preparation_of(processor, model)
        self._mean, self._deviation = (
            np.array(values, np.float32) for values in (processor.image_mean, processor.image_std)
        )
        self._settle()

    def _settle(self) -> None:
        """Use the devices of this machine."""
        import torch

        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._is_bfloat16_fast = _has_bfloat16_products(torch, self._device)
        # Each thread encodes its own part of a batch. Threads that share each product of matrices wait for one another
        # at every step, and spin while decoders want the cores.
        self._parts = 1 if self._device == "cuda" else count_cores()
        self._threads = ThreadPoolExecutor(self._parts, "encode", torch.set_num_threads, (1,))
        self._tower = self._tower.to(self._device)
        self._scale = torch.from_numpy(1 / (255 * self._deviation)).to(self._device)
        self._shift = torch.from_numpy(-self._mean / self._deviation).to(self._device)

    def __getstate__(self) -> dict[str, Any]:
        made_here = ("_torch", "_threads", "_scale", "_shift")
        state = {name: value for name, value in vars(self).items() if name not in made_here}
        # Pickled weights on a GPU could only be read on a machine with a GPU.
        return state | {"_tower": copy.deepcopy(self._tower).to("cpu")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._settle()

    def _embed(self, prepared: Sequence[Prepared]) -> Vectors:
        size = min(self._batch_size, math.ceil(len(prepared) / self._parts))
        parts = [prepared[start : start + size] for start in range(0, len(prepared), size)]
        return np.concatenate(list(self._threads.map(self._embed_part, parts)))

    def _embed_part(self, prepared: Sequence[Prepared]) -> Vectors:
        bfloat16 = self._torch.autocast(self._device, dtype=self._torch.bfloat16, enabled=self._is_bfloat16_fast)
        with self._torch.inference_mode(), bfloat16:
            # Bytes go to the device and become numbers there: a quarter of what float32 would need.
            frames = self._torch.from_numpy(np.stack(prepared)).to(self._device)
            pixels = (frames.float() * self._scale + self._shift).permute(0, 3, 1, 2).contiguous()
            embedded = self._tower(pixel_values=pixels)
        return np.asarray(embedded.image_embeds.float().cpu().numpy())


def _has_bfloat16_products(torch: Any, device: str) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware. On others, bfloat16 is slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older releases of torch lack this function; they stay with float32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _preparation_of(processor: Any, model: str) -> ClipPreparation:
    """How the image processor of a model resizes a frame. Raises EncoderError if it does not do what CLIP's does."""
    size, crop = processor.size, processor.crop_size
    side_px = size.get("shortest_edge")
    if not (processor.do_resize and processor.do_center_crop and side_px and crop.get("height") and crop.get("width")):
        raise EncoderError(
            f"the image processor of {model} does not resize to a shortest edge and crop the centre, as that of CLIP "
            "does (preprocessor_config.json): set model to a CLIP model, or set encoder: pdq, which needs none"
        )
    crop_px = int(crop["height"]), int(crop["width"])
    if max(crop_px) > side_px:
        raise EncoderError(
            f"the image processor of {model} crops {crop_px} px out of a shortest edge of {side_px} px: set model to a "
            "CLIP model"
        )
    return ClipPreparation(side_px=int(side_px), crop_px=crop_px)


def _describe_other_kind(model: str, found: str) -> str:
    return f"{model} is not a CLIP model ({found}): set model to a CLIP model, or set encoder: pdq, which needs none"


def _explain(model: str, folder: Path, error: Exception) -> str:
    if folder.is_dir() or not isinstance(error, OSError):
        return (
            f"{model} holds no CLIP model that can be loaded ({_first_line(error)}): set model to a CLIP model, or set "
            "encoder: pdq, which needs none"
        )
    if model.startswith(_PATH_STARTS):
        return (
            f"model = {model!r} cannot be used: there is no folder {folder}. Set model to the folder of a saved CLIP "
            "model, or to the id of one, or set encoder: pdq, which needs none"
        )
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
    cause = (
        "downloads are switched off (HF_HUB_OFFLINE)"
        if offline
        else "the Hugging Face hub does not know it or cannot be reached"
    )
    return (
        f"the CLIP model {model!r} is not on this machine, and {cause}. Go online once, or set model to the folder of "
        "a saved model, or set encoder: pdq, which needs no model"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
