"""Llama: the numbers and parameters of one, as the CPU's formulas want them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class LlamaShape:
    """The numbers of a Llama that its formulas need."""

    width: int
    heads: int
    kv_heads: int
    head_width: int
    layers: int
    epsilon: float
    rope_base: float
    rope_traditional: bool
    tied: bool


def knows(config: dict[str, Any]) -> bool:
    """Whether a model of this configuration (keys of Hugging Face) is computed here."""
    heads = int(config.get("num_attention_heads") or 1)
    head_width = int(config.get("head_dim") or config.get("hidden_size", 0) // heads)
    odd = ("rope_scaling", "attention_bias", "mlp_bias", "sliding_window", "quantization")
    return (
        config.get("model_type") in ("llama", "mistral")
        and head_width % 2 == 0
        and not any(config.get(key) for key in odd)
        and set(config.get("layer_types") or ["full_attention"]) == {"full_attention"}
    )


class Weights:
    """The parameters as the formulas want them.

    Rotary embeddings turn pairs of features. A head's features are put in the order of the pairs,
    so that a turn is a product of complex numbers; a dot product of two heads does not see it.
    The scale of attention is in the query projection. What reads the same input is one matrix:
    query, key and value; gate and up. For losses alone, what a norm multiplies with is in the
    matrix that reads it, and the gate is negated: each saves a pass over the activations.
    """

    def __init__(self, shape: LlamaShape, parameters: Parameters, for_losses: bool = False) -> None:
        self.shape, self.for_losses = shape, for_losses
        width = shape.head_width
        pairs = np.arange(width) if shape.rope_traditional else _pairs(width)
        self.order_q = (np.arange(shape.heads)[:, None] * width + pairs).ravel()
        self.order_k = self.order_q[: shape.kv_heads * width]
        self.scale = np.float32(width**-0.5)
        self.layers: list[Parameters] = [{} for _ in range(shape.layers)]
        self.update(parameters)

    def update(self, parameters: Parameters) -> None:
        """Take over other values, into the arrays there are."""
        self.embedding = parameters["model.embed_tokens.weight"]
        self.head = self.embedding if self.shape.tied else parameters["lm_head.weight"]
        self.final_norm = parameters["model.norm.weight"]
        for number, layer in enumerate(self.layers):
            at = f"model.layers.{number}."
            query, key, value, output, gate, up, down = (
                parameters[f"{at}{name}_proj.weight"]
                for name in (
                    "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o",
                    "mlp.gate", "mlp.up", "mlp.down",
                )
            )  # fmt: skip
            if not layer:
                layer["into"] = np.empty((len(query) + 2 * len(key), self.shape.width), np.float32)
                layer["gate_up"] = np.empty((2 * len(gate), self.shape.width), np.float32)
            turned_q, turned_k, plain = np.split(layer["into"], [len(query), len(query) + len(key)])
            np.take(query, self.order_q, axis=0, out=turned_q, mode="clip")
            turned_q *= self.scale
            np.take(key, self.order_k, axis=0, out=turned_k, mode="clip")
            plain[:] = value
            layer["gate_up"][: len(gate)] = gate
            layer["gate_up"][len(gate) :] = up
            layer |= {"output": output, "down": down}
            layer["norm1"] = parameters[f"{at}input_layernorm.weight"]
            layer["norm2"] = parameters[f"{at}post_attention_layernorm.weight"]
            if self.for_losses:
                layer["into"] *= layer["norm1"]
                layer["gate_up"] *= layer["norm2"]
                layer["gate_up"][: len(gate)] *= -1
        if self.for_losses:
            self.head = self.head * self.final_norm

    def unfold(self, gradients: Parameters) -> Parameters:
        """Gradients by these weights -> gradients by the parameters."""
        result = {
            "model.embed_tokens.weight": gradients["embedding"],
            "model.norm.weight": gradients["final_norm"],
        }
        if self.shape.tied:
            result["model.embed_tokens.weight"] += gradients["head"]
        else:
            result["lm_head.weight"] = gradients["head"]
        for number in range(self.shape.layers):
            at = f"model.layers.{number}."
            mine = {short: gradients[f"{number}.{short}"] for short in self.layers[number]}
            result[f"{at}input_layernorm.weight"] = mine["norm1"]
            result[f"{at}post_attention_layernorm.weight"] = mine["norm2"]
            result[f"{at}self_attn.o_proj.weight"] = mine["output"]
            result[f"{at}mlp.down_proj.weight"] = mine["down"]
            gate, up = np.split(mine["gate_up"], 2)
            result[f"{at}mlp.gate_proj.weight"], result[f"{at}mlp.up_proj.weight"] = gate, up
            cuts = [len(self.order_q), len(self.order_q) + len(self.order_k)]
            query, key, value = np.split(mine["into"], cuts)
            result[f"{at}self_attn.v_proj.weight"] = value
            for name, part, order in (("q", query, self.order_q), ("k", key, self.order_k)):
                ordered = np.empty_like(part)
                ordered[order] = part
                result[f"{at}self_attn.{name}_proj.weight"] = ordered
            result[f"{at}self_attn.q_proj.weight"] *= self.scale
        return result


def _pairs(width: int) -> np.ndarray:
    """Features i and i + width / 2 turn together: 0, w/2, 1, w/2 + 1, ..."""
    return np.arange(width).reshape(2, width // 2).T.ravel()


@lru_cache(maxsize=32)
def turns(length: int, width: int, base: float) -> np.ndarray:
    """exp(i * position * base^(-2 j / width)), complex64 [length, 1, width / 2]."""
    frequency = base ** (-np.arange(width // 2) * 2.0 / width)
    angle = np.arange(length)[:, None] * frequency
    turns: np.ndarray = np.exp(1j * angle).astype(np.complex64)[:, None]
    return turns
