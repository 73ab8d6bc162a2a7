"""A whole CLIP model of a few kilobytes, with random weights."""

from __future__ import annotations

from pathlib import Path

WIDTH = 16
"""Dimensions of its vectors: fewer than those of the default model."""


def save_tiny_clip(folder: Path) -> Path:
    """Save the model as those of the hub are saved."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    small = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=small
        | {"vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=WIDTH,
    )
    torch.manual_seed(1)
    CLIPModel(config).save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return folder
