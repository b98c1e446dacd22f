"""The Linux CPU's engine: a Llama's losses and gradients in NumPy, on the memory of MLX's arrays.

MLX computes ``exp`` on the Linux CPU at about 20 ns an element, on one thread, and gives every
operation a fresh buffer. NumPy has vectorised loops and releases the interpreter while it works.
So here a batch is cut into chunks of whole rows, about ``CHUNK_POSITIONS`` positions each, that go
through the model from end to end in buffers that stay: one thread a core, every matrix
product on one thread. A chunk is the same whatever the number of threads, so losses are, too.

The formulas are those of ``mlx_lm.models.llama``; the tests hold both against float64.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np

from mlxprune.engine.cpu import attention, head, llama
from mlxprune.engine.cpu.threads import Buffers, CpuThreads

CHUNK_POSITIONS = 1024


def losses(
    threads: CpuThreads, weights: llama.Weights, inputs: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """-ln p(target) per position, in nats: inputs, targets int [B, T] -> float32 [B, T]."""
    result = np.empty(inputs.shape, np.float32)

    def chunk(buffers: Buffers, rows: slice) -> None:
        hidden = Chunk(weights, buffers, inputs[rows]).forward()
        found = head.losses(buffers, hidden, weights.head, targets[rows].ravel())
        result[rows] = found.reshape(result[rows].shape)

    threads.map(chunk, threads.deal(_chunks(inputs.shape)))
    return result


def loss_and_gradients(
    threads: CpuThreads,
    weights: llama.Weights,
    inputs: np.ndarray,
    targets: np.ndarray,
    between: Callable[[], None] = lambda: None,
) -> tuple[float, llama.Parameters]:
    """The mean of ``losses`` (summed in float64) and its gradient by every parameter, float32.

    The gradients are in the threads' buffers: they hold until the next call. ``between`` is called
    before every chunk, by one thread at a time; it may wait, and what it raises is raised here.
    """
    share = np.float32(1 / inputs.size)
    alone = threading.Lock()

    def chunk(buffers: Buffers, job: tuple[slice, _Gradients]) -> float:
        rows, gradients = job
        with alone:
            between()
        work = Chunk(weights, buffers, inputs[rows], gradients)
        hidden = work.forward()
        cotangent = buffers.take("d_hidden_states", *hidden.shape)
        by_head, again = gradients.place(buffers, "head", *weights.head.shape)
        loss = head.loss_and_gradients(
            buffers, hidden, weights.head, targets[rows].ravel(), share, cotangent, by_head
        )
        if again:
            gradients.arrays["head"] += by_head
        work.backward(cotangent)
        return loss

    dealt = [part for part in threads.deal(_chunks(inputs.shape, len(threads))) if part]
    sums = [_Gradients() for _ in dealt]
    jobs = [[(rows, total) for rows in part] for part, total in zip(dealt, sums, strict=True)]
    total = math.fsum(threads.map(chunk, jobs)) / inputs.size
    names = threads.deal(list(sums[0].arrays))

    def join(_: Buffers, name: str) -> None:
        for other in sums[1:]:
            sums[0].arrays[name] += other.arrays[name]

    threads.map(join, names)
    return total, weights.unfold(sums[0].arrays)


def _chunks(shape: tuple[int, ...], threads: int = 1) -> list[slice]:
    """Rows in chunks of about CHUNK_POSITIONS; for training, at least one chunk a thread."""
    count, length = shape
    rows = max(1, CHUNK_POSITIONS // length)
    if threads > 1:
        rows = max(1, min(rows, -(-count // threads)))
    return [slice(first, min(first + rows, count)) for first in range(0, count, rows)]


class _Gradients:
    """Sums over the chunks of a thread, in its buffers: the first chunk writes, later ones add."""

    def __init__(self) -> None:
        self.arrays: llama.Parameters = {}

    def place(self, buffers: Buffers, name: str, *shape: int) -> tuple[np.ndarray, bool]:
        """(where to write, whether what is written has yet to be added to ``arrays[name]``)."""
        if name in self.arrays:
            return buffers.take("gradient to add", *shape), True
        self.arrays[name] = buffers.take(f"gradient {name}", *shape)
        return self.arrays[name], False

    def add_product(self, buffers: Buffers, name: str, a: np.ndarray, b: np.ndarray) -> None:
        """gradient += a^T b for a [N, rows], b [N, columns]."""
        place, again = self.place(buffers, name, a.shape[1], b.shape[1])
        np.matmul(a.T, b, out=place)
        if again:
            self.arrays[name] += place

    def add(self, buffers: Buffers, name: str, value: np.ndarray) -> None:
        place, again = self.place(buffers, name, *value.shape)
        if again:
            self.arrays[name] += value
        else:
            place[:] = value


class Chunk:
    """Some rows of a batch on their way through the layers, there and, for gradients, back."""

    def __init__(
        self,
        weights: llama.Weights,
        buffers: Buffers,
        inputs: np.ndarray,
        gradients: _Gradients | None = None,
    ) -> None:
        self.weights, self.shape, self.buffers = weights, weights.shape, buffers
        self.inputs, self.gradients = inputs, gradients
        self.rows, self.length = inputs.shape
        self.positions = inputs.size
        self.turns = llama.turns(self.length, self.shape.head_width, self.shape.rope_base)

    def take(self, name: str, width: int, layer: int | None = None) -> np.ndarray:
        """A buffer [positions, width]; with gradients to come, one a layer."""
        if layer is not None and self.gradients is not None:
            name = f"{layer}.{name}"
        return self.buffers.take(name, self.positions, width)

    def forward(self) -> np.ndarray:
        """The final normed hidden states, float32 [positions, width]."""
        x, y = self.embedded(), self.take("y", self.shape.width)
        for number in range(self.shape.layers):
            self.mix(x, y, number)
            self.feed(x, y, number)
        return self.norm(x, self.weights.final_norm, "final", 0)

    def embedded(self) -> np.ndarray:
        x = self.take("x", self.shape.width)
        return np.take(self.weights.embedding, self.inputs.ravel(), axis=0, out=x, mode="clip")

    def project(self, x: np.ndarray, number: int) -> np.ndarray:
        """Queries, keys and values of a layer, turned."""
        w = self.weights.layers[number]
        normed = self.norm(x, w["norm1"], "1", number)
        qkv = self.take("qkv", len(w["into"]), number)
        np.matmul(normed, w["into"].T, out=qkv)
        pairs = self._pairs_of(qkv)
        np.multiply(pairs, self.turns, out=pairs)
        return qkv

    def mix(self, x: np.ndarray, y: np.ndarray, number: int) -> None:
        """x += what attention brings; ``y`` is overwritten."""
        qkv = self.project(x, number)
        mixed = self.take("mixed", self.shape.heads * self.shape.head_width, number)
        self.attend(qkv, mixed, number)
        np.matmul(mixed, self.weights.layers[number]["output"].T, out=y)
        x += y

    def feed(self, x: np.ndarray, y: np.ndarray, number: int) -> None:
        """x += what the gated layer makes of each position; ``y`` is overwritten."""
        w = self.weights.layers[number]
        normed = self.norm(x, w["norm2"], "2", number)
        gate_up = self.take("gate_up", len(w["gate_up"]), number)
        np.matmul(normed, w["gate_up"].T, out=gate_up)
        gate, up = np.split(gate_up, 2, axis=1)
        hidden = self.take("hidden", gate.shape[1])
        if self.weights.for_losses:
            for some in head.pieces(self.positions):
                # exp(-x) overflows to inf for x < -88, which gives 0
                denominator = np.exp(gate[some], out=hidden[some])
                denominator += 1.0
                np.divide(gate[some], denominator, out=hidden[some])
                hidden[some] *= up[some]
            np.matmul(hidden, w["down"].T, out=y)
            x -= y
            return
        sigmoid = self.take("sigmoid", gate.shape[1], number)
        for some in head.pieces(self.positions):
            _sigmoid(gate[some], sigmoid[some])
            gate[some] *= sigmoid[some]  # from here on silu(gate)
            np.multiply(gate[some], up[some], out=hidden[some])
        np.matmul(hidden, w["down"].T, out=y)
        x += y

    def attend(self, qkv: np.ndarray, mixed: np.ndarray, layer: int) -> None:
        """What every position takes from those before it in its row, into ``mixed``."""
        attention.attend(
            self.buffers, *self.heads(qkv), self.grouped(mixed), self._normaliser(layer)
        )

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
            silu, up = np.split(self.take("gate_up", len(w["gate_up"]), number), 2, axis=1)
            sigmoid = self.take("sigmoid", silu.shape[1], number)
            d_gate_up = self.take("d_gate_up", len(w["gate_up"]))
            d_gate, d_up = np.split(d_gate_up, 2, axis=1)
            hidden, d_hidden = (self.take(n, silu.shape[1]) for n in ("hidden", "d_hidden"))
            np.multiply(silu, up, out=hidden)
            total.add_product(self.buffers, at + "down", dx, hidden)
            np.matmul(dx, w["down"], out=d_hidden)
            for some in head.pieces(self.positions):
                # d silu / dx = sigmoid + silu * (1 - sigmoid)
                slope = np.subtract(1.0, sigmoid[some], out=d_gate[some])
                slope *= silu[some]
                slope += sigmoid[some]
                slope *= up[some]
                slope *= d_hidden[some]
                np.multiply(d_hidden[some], silu[some], out=d_up[some])
            normed = self.take("normed2", s.width, number)
            total.add_product(self.buffers, at + "gate_up", d_gate_up, normed)
            np.matmul(d_gate_up, w["gate_up"], out=dy)
            self._norm_backward(dy, w["norm2"], "2", number, at + "norm2", dx)

            mixed = self.take("mixed", inner, number)
            total.add_product(self.buffers, at + "output", dx, mixed)
            d_mixed = np.matmul(dx, w["output"], out=self.take("d_mixed", inner))
            normaliser = self._normaliser(number)
            assert normaliser is not None
            d_qkv = self.take("d_qkv", len(w["into"]))
            attention.attend_backward(
                self.buffers,
                *self.heads(self.take("qkv", len(w["into"]), number)),
                self.grouped(mixed),
                self.grouped(d_mixed),
                *self.heads(d_qkv),
                normaliser,
            )
            pairs = self._pairs_of(d_qkv)
            np.multiply(pairs, self.turns.conj(), out=pairs)
            total.add_product(
                self.buffers, at + "into", d_qkv, self.take("normed1", s.width, number)
            )
            np.matmul(d_qkv, w["into"], out=dy)
            self._norm_backward(dy, w["norm1"], "1", number, at + "norm1", dx)
        by_row, again = total.place(self.buffers, "embedding", *self.weights.embedding.shape)
        _add_rows(dx, self.inputs.ravel(), by_row)
        if again:
            total.arrays["embedding"] += by_row

    def _pairs_of(self, qkv: np.ndarray) -> np.ndarray:
        """Queries and keys as complex64 [rows, length, heads, D / 2], to be turned."""
        shaped = qkv.reshape(self.rows, self.length, -1, self.shape.head_width)
        return shaped[:, :, : self.shape.heads + self.shape.kv_heads].view(np.complex64)

    def norm(self, x: np.ndarray, weight: np.ndarray, which: str, layer: int) -> np.ndarray:
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
        if not self.weights.for_losses:
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
        self.gradients.add(self.buffers, name, np.einsum("ij,ij->j", dy, unit))
        dy *= weight
        mean = np.einsum("ij,ij->i", dy, unit) / np.float32(dy.shape[1])
        unit *= mean[:, None]
        dy -= unit
        dy *= scale
        dx += dy

    def heads(self, qkv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, keys and values of [positions, all heads * D], grouped."""
        inner = self.shape.heads * self.shape.head_width
        q, k, v = np.split(qkv, [inner, (inner + qkv.shape[1]) // 2], axis=1)
        return self.grouped(q), self.grouped(k), self.grouped(v)

    def grouped(self, part: np.ndarray) -> np.ndarray:
        """[positions, heads * D] -> view [rows, kv heads, heads a kv head, length, D]."""
        shape = (self.rows, self.length, self.shape.kv_heads, -1, self.shape.head_width)
        view = part.view()
        view.shape = shape  # an error rather than a silent copy
        return view.transpose(0, 2, 3, 1, 4)

    def _normaliser(self, layer: int) -> np.ndarray | None:
        """Where the log-sum-exp of each row of attention is kept, if gradients are to come."""
        if self.gradients is None:
            return None
        flat = self.take("normaliser", self.shape.heads, layer)
        return flat.reshape(self.rows, self.shape.kv_heads, -1, self.length, 1)


def _sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """1 / (1 + exp(-x)); exp(-x) overflows to inf for x < -88, which gives 0."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1.0
    np.reciprocal(out, out=out)


def _add_rows(values: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Row i of ``out`` is the sum of the values whose id is i, or zero."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    out[:] = 0
    out[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
