"""Compares the attention maps of two models layer by layer, on the first windows of each corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from quantry_core.errors import InvalidInput
from quantry_worker.child.evaluation.corpora import Corpus
from quantry_worker.child.numerics.attention import attention_tokens, cosine_similarity, jensen_shannon_nats

NUM_WINDOWS = 4
"""Of each corpus. Maps of single windows hardly differ from one another in this."""


Maps = tuple[torch.Tensor, ...]
"""Of each layer, float32 [1, H, T, T]."""


def attention_maps(model: Any, corpora: list[Corpus]) -> Iterator[Maps]:
    """Yields a model's maps of the first windows of each corpus.

    Windows are cut where the maps of all layers would take more than 64 MiB. Raises InvalidInput for a model that gives no maps,
    such as one without attention.
    """
    config = model.config.get_text_config()
    length = attention_tokens(config.num_hidden_layers, config.num_attention_heads, min(corpus.window_tokens for corpus in corpora))
    with giving_maps(model):
        for corpus in corpora:
            for window in corpus.windows[:NUM_WINDOWS]:
                ids = torch.from_numpy(corpus.stream.tokens[window.begin : window.begin + length])[None]
                with torch.inference_mode():
                    found = _maps(model, ids)
                yield found


def compare_maps(ours: Iterable[Maps], theirs: Iterable[Maps]) -> dict[str, Any]:
    """Returns cosine similarity and Jensen-Shannon divergence of each layer's maps, means over heads, positions and windows."""
    similarities, divergences, length = [], [], 0
    for mine, other in zip(ours, theirs, strict=True):
        similarities.append([cosine_similarity(one, two) for one, two in zip(mine, other, strict=True)])
        divergences.append([jensen_shannon_nats(one, two) for one, two in zip(mine, other, strict=True)])
        length = mine[0].shape[-1]
    by_layer, js_by_layer = np.mean(similarities, axis=0), np.mean(divergences, axis=0)
    return {
        "attention_similarity_min": float(by_layer.min()),
        "attention_similarity_mean": float(by_layer.mean()),
        "attention_js_max_nats": float(js_by_layer.max()),
        "similarity_by_layer": by_layer.tolist(),
        "js_by_layer_nats": js_by_layer.tolist(),
        "num_windows": len(similarities),
        "window_tokens": length,
    }


@contextmanager
def giving_maps(model: Any) -> Iterator[None]:
    """Has a model compute attention so that its maps can be read: fused kernels never hold them."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _maps(model: Any, ids: torch.Tensor) -> Maps:
    maps = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    found = tuple(one for one in maps or () if one is not None)
    if not found:
        raise InvalidInput(f"models of type {model.config.model_type} give no attention maps to compare; leave attention out")
    return found
