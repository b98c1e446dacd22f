"""The Linux CPU's engine: a Llama's losses and gradients in NumPy, on the memory of MLX's arrays.

MLX computes ``exp`` on the Linux CPU at about 20 ns an element, on one thread, and gives every
operation a fresh buffer. NumPy has vectorised loops and releases the interpreter while it works.
So here a batch is cut into chunks of whole rows, about ``CHUNK_POSITIONS`` positions each, that go
through the model from end to end in buffers that stay: one thread (a lane) a core, every matrix
product on one thread. A chunk is the same whatever the number of lanes, so losses are, too.

The formulas are those of ``mlx_lm.models.llama``; the tests hold both against float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlxprune import attention, head
from mlxprune.lanes import Buffers, Lanes

CHUNK_POSITIONS = 1024

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
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


def losses(
    lanes: Lanes, shape: Shape, parameters: Parameters, inputs: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """-ln p(target) per position, in nats: inputs, targets int [B, T] -> float32 [B, T]."""
    weights = _Weights(shape, parameters)
    result = np.empty(inputs.shape, np.float32)

    def chunk(buffers: Buffers, rows: slice) -> None:
        hidden = _Chunk(weights, buffers, inputs[rows]).forward()
        found = head.losses(buffers, hidden, weights.head, targets[rows].ravel())
        result[rows] = found.reshape(result[rows].shape)

    lanes.map(chunk, lanes.deal(_chunks(inputs.shape)))
    return result


def loss_and_gradients(
    lanes: Lanes, shape: Shape, parameters: Parameters, inputs: np.ndarray, targets: np.ndarray
) -> tuple[float, Parameters]:
    """The mean of ``losses`` (summed in float64) and its gradient by every parameter, float32."""
    weights = _Weights(shape, parameters)
    share = np.float32(1 / inputs.size)

    def chunk(buffers: Buffers, job: tuple[slice, _Gradients]) -> float:
        rows, gradients = job
        work = _Chunk(weights, buffers, inputs[rows], gradients)
        hidden = work.forward()
        cotangent = buffers.take("d_hidden_states", *hidden.shape)
        loss, by_head = head.loss_and_gradients(
            buffers, hidden, weights.head, targets[rows].ravel(), share, cotangent
        )
        gradients.add("head", by_head)
        work.backward(cotangent)
        return loss

    dealt = [part for part in lanes.deal(_chunks(inputs.shape, len(lanes))) if part]
    sums = [_Gradients() for _ in dealt]
    jobs = [[(rows, total) for rows in part] for part, total in zip(dealt, sums, strict=True)]
    total = math.fsum(lanes.map(chunk, jobs)) / inputs.size
    names = lanes.deal(list(sums[0].arrays))

    def join(_: Buffers, name: str) -> None:
        for other in sums[1:]:
            sums[0].arrays[name] += other.arrays[name]

    lanes.map(join, names)
    return total, weights.unfold(sums[0].arrays)


def _chunks(shape: tuple[int, ...], lanes: int = 1) -> list[slice]:
    """Rows in chunks of about CHUNK_POSITIONS; for training, at least one chunk a lane."""
    count, length = shape
    rows = max(1, CHUNK_POSITIONS // length)
    if lanes > 1:
        rows = max(1, min(rows, -(-count // lanes)))
    return [slice(first, min(first + rows, count)) for first in range(0, count, rows)]


class _Gradients:
    """Sums over the chunks of a lane: the first chunk writes, later ones add."""

    def __init__(self) -> None:
        self.arrays: Parameters = {}

    def add_product(self, name: str, a: np.ndarray, b: np.ndarray) -> None:
        """gradient += a^T b for a [N, rows], b [N, columns]."""
        self.add(name, a.T @ b)

    def add(self, name: str, value: np.ndarray) -> None:
        if name in self.arrays:
            self.arrays[name] += value
        else:
            self.arrays[name] = value


class _Weights:
    """The parameters as the formulas want them.

    Rotary embeddings turn pairs of features. A head's features are put in the order of the pairs,
    so that a turn is a product of complex numbers; a dot product of two heads does not see it.
    The scale of attention is in the query projection.
    """

    def __init__(self, shape: Shape, parameters: Parameters) -> None:
        self.shape = shape
        self.embedding = parameters["model.embed_tokens.weight"]
        self.head = self.embedding if shape.tied else parameters["lm_head.weight"]
        self.final_norm = parameters["model.norm.weight"]
        width = shape.head_width
        pairs = np.arange(width) if shape.rope_traditional else _pairs(width)
        self.order_q = (np.arange(shape.heads)[:, None] * width + pairs).ravel()
        self.order_k = self.order_q[: shape.kv_heads * width]
        self.scale = np.float32(width**-0.5)
        self.layers = []
        for number in range(shape.layers):
            at = f"model.layers.{number}."
            query = parameters[f"{at}self_attn.q_proj.weight"][self.order_q]
            query *= self.scale
            self.layers.append(
                {
                    "norm1": parameters[f"{at}input_layernorm.weight"],
                    "query": query,
                    "key": parameters[f"{at}self_attn.k_proj.weight"][self.order_k],
                    "value": parameters[f"{at}self_attn.v_proj.weight"],
                    "output": parameters[f"{at}self_attn.o_proj.weight"],
                    "norm2": parameters[f"{at}post_attention_layernorm.weight"],
                    "gate": parameters[f"{at}mlp.gate_proj.weight"],
                    "up": parameters[f"{at}mlp.up_proj.weight"],
                    "down": parameters[f"{at}mlp.down_proj.weight"],
                }
            )

    def unfold(self, gradients: Parameters) -> Parameters:
        """Gradients by these weights -> gradients by the parameters."""
        names = {
            "norm1": "input_layernorm",
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "value": "self_attn.v_proj",
            "output": "self_attn.o_proj",
            "norm2": "post_attention_layernorm",
            "gate": "mlp.gate_proj",
            "up": "mlp.up_proj",
            "down": "mlp.down_proj",
        }
        result = {
            "model.embed_tokens.weight": gradients["embedding"],
            "model.norm.weight": gradients["final_norm"],
        }
        if self.shape.tied:
            result["model.embed_tokens.weight"] += gradients["head"]
        else:
            result["lm_head.weight"] = gradients["head"]
        for number in range(self.shape.layers):
            for short, name in names.items():
                value = gradients[f"{number}.{short}"]
                if short in ("query", "key"):
                    ordered = np.empty_like(value)
                    ordered[self.order_q if short == "query" else self.order_k] = value
                    value = ordered * self.scale if short == "query" else ordered
                result[f"model.layers.{number}.{name}.weight"] = value
        return result


def _pairs(width: int) -> np.ndarray:
    """Features i and i + width / 2 turn together: 0, w/2, 1, w/2 + 1, ..."""
    return np.arange(width).reshape(2, width // 2).T.ravel()


@lru_cache(maxsize=32)
def _turns(length: int, width: int, base: float) -> np.ndarray:
    """exp(i * position * base^(-2 j / width)), complex64 [length, 1, width / 2]."""
    frequency = base ** (-np.arange(width // 2) * 2.0 / width)
    angle = np.arange(length)[:, None] * frequency
    turns: np.ndarray = np.exp(1j * angle).astype(np.complex64)[:, None]
    return turns


class _Chunk:
    """Some rows of a batch on their way through the layers, there and, for gradients, back."""

    def __init__(
        self,
        weights: _Weights,
        buffers: Buffers,
        inputs: np.ndarray,
        gradients: _Gradients | None = None,
    ) -> None:
        self.weights, self.shape, self.buffers = weights, weights.shape, buffers
        self.inputs, self.gradients = inputs, gradients
        self.rows, self.length = inputs.shape
        self.positions = inputs.size
        self.turns = _turns(self.length, self.shape.head_width, self.shape.rope_base)

    def take(self, name: str, width: int, layer: int | None = None) -> np.ndarray:
        """A buffer [positions, width]; with gradients to come, one a layer."""
        if layer is not None and self.gradients is not None:
            name = f"{layer}.{name}"
        return self.buffers.take(name, self.positions, width)

    def forward(self) -> np.ndarray:
        """The final normed hidden states, float32 [positions, width]."""
        s = self.shape
        x = self.take("x", s.width)
        np.take(self.weights.embedding, self.inputs.ravel(), axis=0, out=x, mode="clip")
        y = self.take("y", s.width)
        inner = s.heads * s.head_width
        for number, w in enumerate(self.weights.layers):
            normed = self._norm(x, w["norm1"], "1", number)
            q, k, v = self._projections(number)
            np.matmul(normed, w["query"].T, out=q)
            np.matmul(normed, w["key"].T, out=k)
            np.matmul(normed, w["value"].T, out=v)
            for part in (q, k):
                pairs = self._pairs_of(part)
                np.multiply(pairs, self.turns, out=pairs)
            mixed = self.take("mixed", inner, number)
            self._attend(q, k, v, mixed, number)
            np.matmul(mixed, w["output"].T, out=y)
            x += y
            normed = self._norm(x, w["norm2"], "2", number)
            gate, up, sigmoid = (
                self.take(name, len(w["gate"]), number) for name in ("gate", "up", "sigmoid")
            )
            np.matmul(normed, w["gate"].T, out=gate)
            np.matmul(normed, w["up"].T, out=up)
            _sigmoid(gate, sigmoid)
            gate *= sigmoid  # from here on silu(gate)
            hidden = self.take("hidden", len(w["gate"]))
            np.multiply(gate, up, out=hidden)
            np.matmul(hidden, w["down"].T, out=y)
            x += y
        return self._norm(x, self.weights.final_norm, "final", 0)

    def backward(self, x_gradient: np.ndarray) -> None:
        """From the gradient by the final normed hidden states to those by every weight."""
        s, total = self.shape, self.gradients
        assert total is not None
        dx = self.take("dx", s.width)
        dx[:] = 0
        self._norm_backward(x_gradient, self.weights.final_norm, "final", 0, "final_norm", dx)
        dy = self.take("dy", s.width)
        inner = s.heads * s.head_width
        for number in reversed(range(s.layers)):
            w, at = self.weights.layers[number], f"{number}."
            silu, up, sigmoid = (
                self.take(name, len(w["gate"]), number) for name in ("gate", "up", "sigmoid")
            )
            hidden, d_hidden = (self.take(n, len(w["gate"])) for n in ("hidden", "d_hidden"))
            np.multiply(silu, up, out=hidden)
            total.add_product(at + "down", dx, hidden)
            np.matmul(dx, w["down"], out=d_hidden)
            # d silu / dx = sigmoid + silu * (1 - sigmoid)
            d_gate = hidden
            np.subtract(1.0, sigmoid, out=d_gate)
            d_gate *= silu
            d_gate += sigmoid
            d_gate *= up
            d_gate *= d_hidden
            d_up = np.multiply(d_hidden, silu, out=d_hidden)
            normed = self.take("normed2", s.width, number)
            total.add_product(at + "gate", d_gate, normed)
            total.add_product(at + "up", d_up, normed)
            np.matmul(d_gate, w["gate"], out=dy)
            more = np.matmul(d_up, w["up"], out=self.take("y", s.width))
            dy += more
            self._norm_backward(dy, w["norm2"], "2", number, at + "norm2", dx)

            mixed = self.take("mixed", inner, number)
            total.add_product(at + "output", dx, mixed)
            d_mixed = np.matmul(dx, w["output"], out=self.take("d_mixed", inner))
            q, k, v = self._projections(number)
            dq, dk, dv = self._attend_backward(q, k, v, mixed, d_mixed, number)
            normed = self.take("normed1", s.width, number)
            for part in (dq, dk):
                pairs = self._pairs_of(part)
                np.multiply(pairs, self.turns.conj(), out=pairs)
            first = True
            for name, part in (("query", dq), ("key", dk), ("value", dv)):
                total.add_product(at + name, part, normed)
                more = np.matmul(part, w[name], out=dy if first else self.take("y", s.width))
                if not first:
                    dy += more
                first = False
            self._norm_backward(dy, w["norm1"], "1", number, at + "norm1", dx)
        total.add("embedding", _rows_added(dx, self.inputs.ravel(), len(self.weights.embedding)))

    def _projections(self, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        s = self.shape
        q = self.take("q", s.heads * s.head_width, layer)
        k = self.take("k", s.kv_heads * s.head_width, layer)
        return q, k, self.take("v", s.kv_heads * s.head_width, layer)

    def _pairs_of(self, part: np.ndarray) -> np.ndarray:
        """Heads side by side, [positions, heads * D] -> complex64 [rows, length, heads, D / 2]."""
        shaped = part.reshape(self.rows, self.length, -1, self.shape.head_width)
        return shaped.view(np.complex64)

    def _norm(self, x: np.ndarray, weight: np.ndarray, which: str, layer: int) -> np.ndarray:
        """x / sqrt(mean(x^2) + epsilon) * weight, by row."""
        scale = np.einsum("ij,ij->i", x, x)
        scale /= x.shape[1]
        scale += self.shape.epsilon
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        result = self.take("normed" + which, x.shape[1], layer)
        np.multiply(x, scale[:, None], out=result)
        if self.gradients is not None:
            self.take("scale" + which, 1, layer)[:, 0] = scale
            self.take("unit" + which, x.shape[1], layer)[:] = result
        result *= weight
        return result

    def _norm_backward(
        self,
        dy: np.ndarray,
        weight: np.ndarray,
        which: str,
        layer: int,
        name: str,
        dx: np.ndarray,
    ) -> None:
        """dx += r (g - u mean(g u)) for u = x r and g = dy weight; dy is overwritten."""
        assert self.gradients is not None
        unit = self.take("unit" + which, dy.shape[1], layer)
        scale = self.take("scale" + which, 1, layer)
        self.gradients.add(name, np.einsum("ij,ij->j", dy, unit))
        dy *= weight
        mean = np.einsum("ij,ij->i", dy, unit) / np.float32(dy.shape[1])
        unit *= mean[:, None]
        dy -= unit
        dy *= scale
        dx += dy

    def _grouped(self, *parts: np.ndarray) -> list[np.ndarray]:
        """[positions, heads * D] -> views [rows, kv heads, heads a kv head, length, D]."""
        shape = (self.rows, self.length, self.shape.kv_heads, -1, self.shape.head_width)
        return [part.reshape(shape).transpose(0, 2, 3, 1, 4) for part in parts]

    def _normaliser(self, layer: int) -> np.ndarray | None:
        if self.gradients is None:
            return None
        flat = self.take("normaliser", self.shape.heads, layer)
        return flat.reshape(self.rows, self.shape.kv_heads, -1, self.length, 1)

    def _attend(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mixed: np.ndarray, layer: int
    ) -> None:
        q, k, v, out = self._grouped(q, k, v, mixed)
        attention.attend(self.buffers, q, k, v, out, self._normaliser(layer))

    def _attend_backward(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        mixed: np.ndarray,
        d_mixed: np.ndarray,
        layer: int,
    ) -> list[np.ndarray]:
        """Gradients by q, k and v, as [positions, heads * D]."""
        flat = [self.take(name, part.shape[1]) for name, part in (("dq", q), ("dk", k), ("dv", v))]
        normaliser = self._normaliser(layer)
        assert normaliser is not None
        q, k, v, out, d_out, dq, dk, dv = self._grouped(q, k, v, mixed, d_mixed, *flat)
        attention.attend_backward(self.buffers, q, k, v, out, d_out, dq, dk, dv, normaliser)
        return flat


def _sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """1 / (1 + exp(-x)); exp(-x) overflows to inf for x < -88, which gives 0."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1.0
    np.reciprocal(out, out=out)


def _rows_added(values: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """[count, width] with row i the sum of the values whose id is i."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    result = np.zeros((count, values.shape[1]), np.float32)
    result[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return result
