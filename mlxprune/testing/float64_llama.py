"""A Llama in NumPy float64, written for reading: what both engines are held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a float32 or bfloat16 safetensors file as float64, without MLX or torch."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, stop = entry["data_offsets"]
        data = raw[8 + size + first : 8 + size + stop]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        result[name] = values.astype(np.float64).reshape(entry["shape"])
    return result


def llama_log_probabilities(
    weights: dict[str, np.ndarray], config: dict[str, Any], inputs: np.ndarray
) -> np.ndarray:
    """log p(next token) at every position of one sequence: int [T] -> float64 [T, V].

    The Llama of Touvron et al. 2023 with the half-split rotary embedding of Hugging Face, written
    for reading: one sequence, no cache, no fusion, float64 throughout.
    """
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    epsilon, theta = config["rms_norm_eps"], config.get("rope_theta", 10000.0)
    length = len(inputs)
    x = weights["model.embed_tokens.weight"][inputs]
    head_dim = config.get("head_dim") or x.shape[1] // heads
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequencies[None, :]
    cosine, sine = np.cos(angles), np.sin(angles)
    future = np.triu(np.full((length, length), -np.inf), 1)

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        scale = np.sqrt((values**2).mean(axis=-1, keepdims=True) + epsilon)
        result: np.ndarray = values / scale * weights[name]
        return result

    def rotate(values: np.ndarray) -> np.ndarray:
        first, second = np.split(values, 2, axis=-1)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)

    def softmax(values: np.ndarray) -> np.ndarray:
        e = np.exp(values - values.max(axis=-1, keepdims=True))
        result: np.ndarray = e / e.sum(axis=-1, keepdims=True)
        return result

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        h = norm(x, at + "input_layernorm.weight")
        q, k, v = (h @ weights[f"{at}self_attn.{p}_proj.weight"].T for p in "qkv")
        mixed = []
        for head in range(heads):
            mine = slice(head * head_dim, (head + 1) * head_dim)
            shared = head * kv_heads // heads
            theirs = slice(shared * head_dim, (shared + 1) * head_dim)
            scores = rotate(q[:, mine]) @ rotate(k[:, theirs]).T / np.sqrt(head_dim)
            mixed.append(softmax(scores + future) @ v[:, theirs])
        x = x + np.concatenate(mixed, axis=1) @ weights[at + "self_attn.o_proj.weight"].T
        h = norm(x, at + "post_attention_layernorm.weight")
        gate = h @ weights[at + "mlp.gate_proj.weight"].T
        up = h @ weights[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[at + "mlp.down_proj.weight"].T
    h = norm(x, "model.norm.weight")
    head_weight = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    logits = h @ head_weight.T
    shift = logits.max(axis=-1, keepdims=True)
    result: np.ndarray = logits - shift - np.log(np.exp(logits - shift).sum(axis=-1, keepdims=True))
    return result


def cross_entropy_and_slope(
    logits: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """-ln p(target) of float64 logits [N, V], and its derivative by the logits."""
    shift = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - shift).sum(-1, keepdims=True)) + shift
    rows = np.arange(len(targets))
    slope = np.exp(logits - log_sum)
    slope[rows, targets] -= 1
    return log_sum[:, 0] - logits[rows, targets], slope


def attention_and_gradients(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, cotangent: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Causal attention of [B, heads, T, D] over [B, kv heads, T, D] by its dense definition, in
    float64, and the gradients of (output * cotangent).sum() by q, k and v."""
    batch, heads, length, width = q.shape
    kv_heads = k.shape[1]
    kk, vv = (np.repeat(a, heads // kv_heads, axis=1) for a in (k, v))
    scores = q @ kk.swapaxes(-1, -2) * scale + np.triu(np.full((length, length), -np.inf), 1)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    dp = cotangent @ vv.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale

    def grouped(a: np.ndarray) -> np.ndarray:
        result: np.ndarray = a.reshape(batch, kv_heads, -1, length, width).sum(2)
        return result

    dk, dv = grouped(ds.swapaxes(-1, -2) @ q), grouped(p.swapaxes(-1, -2) @ cotangent)
    return p @ vv, ds @ kk, dk, dv


def document_nll(
    weights: dict[str, np.ndarray],
    config: dict[str, Any],
    ids: np.ndarray,
    prefix: int,
    context: int,
    overlap: int = 0,
    start: str = "last",
) -> float:
    """-ln p of a whole document in windows of ``context`` targets, each target once, in float64.
    Later windows begin with the last token before them, or with the prefix."""
    total, scored = 0.0, 0
    while scored < len(ids):
        lead = overlap if scored else 0
        first = scored - lead
        stop = min(first + context, len(ids))
        before = int(ids[first - 1]) if first and start == "last" else prefix
        inputs = np.concatenate([[before], ids[first : stop - 1]]).astype(np.int64)
        table = llama_log_probabilities(weights, config, inputs)
        picked = table[np.arange(stop - first), ids[first:stop].astype(np.int64)]
        total -= float(picked[lead:].sum())
        scored = stop
    return total


def mean_loss(weights: dict[str, np.ndarray], config: dict[str, Any], rows: np.ndarray) -> float:
    """Mean -ln p of every token of rows int [B, T + 1] but the first, in float64."""
    losses = []
    for row in rows:
        table = llama_log_probabilities(weights, config, row[:-1])
        losses.append(-table[np.arange(len(row) - 1), row[1:]])
    return float(np.mean(losses))


def slope_along(
    weights: dict[str, np.ndarray],
    config: dict[str, Any],
    rows: np.ndarray,
    direction: dict[str, np.ndarray],
) -> float:
    """d mean_loss along a direction in the parameters: a central difference in float64."""
    step = 1e-6

    def moved(by: float) -> float:
        there = {n: w + by * direction[n] if n in direction else w for n, w in weights.items()}
        return mean_loss(there, config, rows)

    return (moved(step) - moved(-step)) / (2 * step)
