"""Memory: upper bounds on what scoring and training hold, and batch shapes that stay inside them.

The bounds follow the buffers of the two engines, ``cpu`` and ``graph``, term by term. They count
what grows with model, vocabulary, context and batch, and leave out the interpreter itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlxprune.engine.cpu import attention, head, layers, llama
from mlxprune.engine.gpu import loss_graph
from mlxprune.engine.gpu.attention import ATTENTION_ROWS
from mlxprune.model.architecture import parameter_counts, text_config
from mlxprune.records import Json

FLOAT = 4
SMALL_BYTES = 16 << 20  # row sums, masks, turns, and what an allocator rounds up
PROCESS_BYTES = 400 << 20  # Python, NumPy, MLX and mlx-lm before they hold anything of ours
FUSED_HEADS = (64, 72, 80, 96, 128)  # widths that MLX has a fused attention for, on Metal
IN_FLIGHT = 3  # scoring batches that a GPU holds: two waiting and one that is made
OPTIMIZER_ARRAYS = {"adamw": 2, "lion": 1}


class ModelSizes:
    """The sizes in a model's configuration that bounds are made of, in elements."""

    def __init__(self, config: Json, context: int) -> None:
        self.context = context
        self.numpy = llama.knows(config)
        self.parameters = sum(parameter_counts(config))
        config = text_config(config)
        self.plain_head = config["model_type"] in (*loss_graph.PLAIN_HEADS, "mistral")
        self.vocab_size = int(config.get("vocab_size", 0))
        self.width = int(config.get("hidden_size") or config.get("n_embd") or 512)
        self.layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 1)
        self.heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
        kv_heads = int(config.get("num_key_value_heads") or self.heads)
        head_width = int(config.get("head_dim") or self.width // self.heads)
        self.hidden = int(config.get("intermediate_size") or 4 * self.width)
        self.head_width = head_width
        self.inner = self.heads * head_width
        self.inner_all = self.inner + 2 * kv_heads * head_width
        self.copied = self.layers * (self.inner_all + 2 * self.hidden) * self.width
        self.positions = max(context, layers.CHUNK_POSITIONS)
        block = self.heads * min(attention.BLOCK_QUERIES, context) * context
        self.attention = max(attention.BLOCK_WEIGHTS, block)


@dataclass(frozen=True)
class MemoryPlan:
    """Upper bounds for one model on one device, and the batch shapes that stay inside them."""

    sizes: ModelSizes
    backend_name: str  # cpu, metal, cuda
    threads: int  # of one process, on a CPU
    allowed: int  # bytes that batches may fill
    train_bytes: int = 2  # of a number that is not a sum, on a GPU
    score_bytes: int = 2

    @property
    def on_cpu(self) -> bool:
        return self.backend_name == "cpu"

    def scoring_bytes(self, batch_tokens: int, threads: int = 1) -> int:
        """What one scoring process holds at most, in bytes."""
        n = self.sizes
        if self.on_cpu and n.numpy:
            weights = n.parameters + n.copied + n.vocab_size * n.width
            a_thread = n.positions * (5 * n.width + 2 * n.inner_all + n.inner + 4 * n.hidden)
            a_thread += n.positions * min(n.vocab_size, head.VOCABULARY_COLUMNS) + n.attention
            return FLOAT * (weights + threads * a_thread + 6 * batch_tokens) + SMALL_BYTES
        bytes_each = 4 if self.on_cpu else self.score_bytes
        rows = max(batch_tokens, n.context)
        activations = rows * (6 * n.width + 2 * n.inner_all + 4 * n.hidden) * bytes_each
        if self.on_cpu:  # its attention is not fused: scores, mask and weights of a layer
            activations += 3 * rows * n.heads * n.context * FLOAT
        elif n.head_width not in FUSED_HEADS:
            activations += 3 * rows * n.heads * n.context * bytes_each
        logits = 3 * max(loss_graph.LOGITS_BYTES, FLOAT * n.vocab_size)
        if not n.plain_head:
            logits = IN_FLIGHT * rows * n.vocab_size * (bytes_each + FLOAT)
        cache = loss_graph.CPU_CACHE_BYTES if self.on_cpu else 0
        return n.parameters * bytes_each + IN_FLIGHT * activations + logits + cache

    def training_bytes(
        self, rows: int, optimizer: str = "adamw", gradient_checkpointing: bool = False
    ) -> int:
        """What training on micro-batches of ``rows`` sequences holds at most, in bytes."""
        n = self.sizes
        moments = OPTIMIZER_ARRAYS[optimizer]
        if self.on_cpu and n.numpy:
            largest = max(n.vocab_size, n.hidden) * n.width
            shared = n.parameters * (1 + moments) + n.copied
            a_layer = 4 * n.width + n.inner_all + n.inner + n.heads + 2 + 3 * n.hidden
            a_thread = n.positions * (n.layers * a_layer + 11 * n.width + 4 * n.hidden)
            a_thread += n.positions * (3 * n.inner_all + n.inner)
            a_thread += max(head.LOGITS, n.vocab_size) + 2 * n.attention
            shared += n.copied  # reordered gradients of queries and keys
            # Its gradients, by embedding and head apart, and products that are added to them.
            a_thread += n.parameters + 3 * largest
            validation = self.scoring_bytes(0, self.threads) - FLOAT * n.parameters
            return FLOAT * (shared + self.threads * a_thread) + validation
        bytes_each = 4 if self.on_cpu else self.train_bytes
        positions = rows * n.context
        a_layer = 8 * n.width + 2 * n.inner_all + 5 * n.hidden
        kept = n.layers * n.width + a_layer if gradient_checkpointing else n.layers * a_layer
        # masters, gradients, moments; what a step makes new of them; the copy in the compute dtype
        weights = n.parameters * (FLOAT * (3 + 2 * moments) + bytes_each)
        logits = (
            4 * max(loss_graph.LOGITS_BYTES, FLOAT * n.vocab_size)
            + 3 * FLOAT * n.vocab_size * n.width
        )
        if not n.plain_head:
            logits += 3 * positions * n.vocab_size * (bytes_each + FLOAT)
        attended = 4 * rows * n.heads * min(256, n.context) * n.context * FLOAT
        if self.on_cpu or not n.plain_head:
            attended = 6 * rows * n.heads * n.context * n.context * FLOAT
        elif n.context <= ATTENTION_ROWS:  # it is MLX's, which keeps the weights of every layer
            layers = 1 if gradient_checkpointing else n.layers
            attended += 2 * layers * rows * n.heads * n.context * n.context * bytes_each
        # The gradient of the look-up: rows by id, sums inside blocks, and a row for every id.
        lookup = FLOAT * n.width * (3 * positions + 3 * n.vocab_size)
        cache = loss_graph.CPU_CACHE_BYTES if self.on_cpu else 0
        return weights + positions * kept * bytes_each + logits + attended + lookup + cache

    def scoring_batch(self, most: int, processes: int) -> int:
        """Input positions of a scoring batch: ``most``, or less where memory is short, never below
        one row. All scoring processes together stay inside what is allowed; each has one thread."""
        context = self.sizes.context
        tokens = max(most, context)
        while tokens > context and processes * self.scoring_bytes(tokens) > self.allowed:
            tokens = max(context, tokens // 2)
        return tokens

    def micro_batches(
        self, batch_size: int, optimizer: str, gradient_checkpointing: bool = False
    ) -> int:
        """The fewest equal micro-batches of a step that fit; ``batch_size`` if none do."""
        for parts in range(1, batch_size + 1):
            if batch_size % parts == 0 and self.allowed >= self.training_bytes(
                batch_size // parts, optimizer, gradient_checkpointing
            ):
                return parts
        return batch_size


def memory_plan(config: Json, context: int, allowed: int | None = None) -> MemoryPlan:
    """Of a model's configuration on this process' device; ``allowed`` by default what the device
    says."""
    from mlxprune.engine import backend

    device = backend.detect()
    return MemoryPlan(
        ModelSizes(config, context),
        device.name,
        device.score_workers,
        allowed or device.memory_bytes,
        device.train_dtype.size,
        device.score_dtype.size,
    )
