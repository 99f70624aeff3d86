"""Compares the attention maps of two models layer by layer, on the first windows of each corpus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from quantry_core.errors import InvalidInput
from quantry_worker.child.evaluation.corpora import Corpus
from quantry_worker.child.numerics.attention import attention_tokens, cosine_similarity, jensen_shannon_nats

NUM_WINDOWS = 4
"""Of each corpus. Maps of single windows hardly differ from one another in this."""


def compare_attention(model: Any, reference_model: Any, corpora: list[Corpus]) -> dict[str, Any]:
    """Returns cosine similarity and Jensen-Shannon divergence of each layer's maps, means over heads, positions and windows.

    Windows are cut where the maps of all layers would take more than 64 MiB. Raises InvalidInput for a model that gives no maps,
    such as one without attention.
    """
    config = reference_model.config.get_text_config()
    similarities, divergences = [], []
    length = attention_tokens(config.num_hidden_layers, config.num_attention_heads, min(corpus.window_tokens for corpus in corpora))
    with giving_maps(model), giving_maps(reference_model), torch.inference_mode():
        for corpus in corpora:
            for window in corpus.windows[:NUM_WINDOWS]:
                ids = torch.from_numpy(corpus.stream.tokens[window.begin : window.begin + length])[None]
                pairs = list(zip(_maps(model, ids), _maps(reference_model, ids), strict=True))
                similarities.append([cosine_similarity(ours, theirs) for ours, theirs in pairs])
                divergences.append([jensen_shannon_nats(ours, theirs) for ours, theirs in pairs])
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


def _maps(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    maps = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    found = tuple(one for one in maps or () if one is not None)
    if not found:
        raise InvalidInput(f"models of type {model.config.model_type} give no attention maps to compare; leave attention out")
    return found
