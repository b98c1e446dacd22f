"""Memory: upper bounds on what scoring and training hold, and batch shapes that stay inside them.

The bounds follow the buffers of the two engines, ``cpu`` and ``graph``, term by term. They count
what grows with model, vocabulary, context and batch, and leave out the interpreter itself.
"""

from __future__ import annotations

from typing import Any

from mlxprune.engine.cpu import attention, head, layers, llama
from mlxprune.engine.gpu import loss_graph
from mlxprune.model.architecture import parameter_counts, text_config

FLOAT = 4
SMALL_BYTES = 16 << 20  # row sums, masks, turns, and what an allocator rounds up
PROCESS_BYTES = 400 << 20  # Python, NumPy, MLX and mlx-lm before they hold anything of ours
IN_FLIGHT = 3  # scoring batches that a GPU holds: two waiting and one that is made
OPTIMIZER_ARRAYS = {"adamw": 2, "lion": 1}


def scoring_bytes(
    config: dict[str, Any], context: int, batch_tokens: int, backend_name: str, lanes: int = 1
) -> int:
    """What one scoring process holds at most, in bytes."""
    n = _Numbers(config, context)
    if backend_name == "cpu" and n.numpy:
        weights = n.parameters + n.copied + n.vocab_size * n.width
        a_lane = n.positions * (5 * n.width + 2 * n.inner_all + n.inner + 4 * n.hidden)
        a_lane += n.positions * min(n.vocab_size, head.VOCABULARY_COLUMNS) + n.attention
        return FLOAT * (weights + lanes * a_lane + 6 * batch_tokens) + SMALL_BYTES
    bytes_each = 4 if backend_name == "cpu" else 2
    rows = max(batch_tokens, context)
    activations = rows * (6 * n.width + 2 * n.inner_all + 4 * n.hidden) * bytes_each
    if backend_name == "cpu":  # its attention is not fused: scores, mask and weights of a layer
        activations += 3 * rows * n.heads * context * FLOAT
    logits = 3 * max(loss_graph.LOGITS_BYTES, FLOAT * n.vocab_size)
    if not n.plain_head:
        logits = IN_FLIGHT * rows * n.vocab_size * (bytes_each + FLOAT)
    cache = loss_graph.CPU_CACHE_BYTES if backend_name == "cpu" else 0
    return n.parameters * bytes_each + IN_FLIGHT * activations + logits + cache


def training_bytes(
    config: dict[str, Any],
    context: int,
    rows: int,
    backend_name: str,
    lanes: int = 1,
    optimizer: str = "adamw",
    gradient_checkpointing: bool = False,
) -> int:
    """What training on micro-batches of ``rows`` sequences holds at most, in bytes."""
    n = _Numbers(config, context)
    moments = OPTIMIZER_ARRAYS[optimizer]
    if backend_name == "cpu" and n.numpy:
        largest = max(n.vocab_size, n.hidden) * n.width
        shared = n.parameters * (1 + moments) + n.copied
        a_layer = 4 * n.width + n.inner_all + n.inner + n.heads + 2 + 3 * n.hidden
        a_lane = n.positions * (n.layers * a_layer + 11 * n.width + 4 * n.hidden)
        a_lane += n.positions * (3 * n.inner_all + n.inner)
        a_lane += max(head.LOGITS, n.vocab_size) + 2 * n.attention
        shared += n.copied  # reordered gradients of queries and keys
        # Its gradients, by embedding and head apart, and products that are added to them.
        a_lane += n.parameters + 3 * largest
        validation = scoring_bytes(config, context, 0, backend_name, lanes) - FLOAT * n.parameters
        return FLOAT * (shared + lanes * a_lane) + validation
    bytes_each = 4 if backend_name == "cpu" else 2
    positions = rows * context
    a_layer = 8 * n.width + 2 * n.inner_all + 5 * n.hidden
    kept = n.layers * n.width + a_layer if gradient_checkpointing else n.layers * a_layer
    # masters, gradients, moments; what a step makes new of them; the copy in the compute dtype
    weights = n.parameters * (FLOAT * (3 + 2 * moments) + bytes_each)
    logits = (
        4 * max(loss_graph.LOGITS_BYTES, FLOAT * n.vocab_size) + 3 * FLOAT * n.vocab_size * n.width
    )
    if not n.plain_head:
        logits += 3 * positions * n.vocab_size * (bytes_each + FLOAT)
    attended = 4 * rows * n.heads * min(256, context) * context * FLOAT
    if backend_name == "cpu" or not n.plain_head:
        attended = 6 * rows * n.heads * context * context * FLOAT
    cache = loss_graph.CPU_CACHE_BYTES if backend_name == "cpu" else 0
    return weights + positions * kept * bytes_each + logits + attended + cache


def score_batch_tokens(
    config: dict[str, Any], context: int, most: int, memory: int, backend_name: str, processes: int
) -> int:
    """Input positions of a scoring batch: ``most``, or less where memory is short, never below 1
    row. All scoring processes together stay inside ``memory``."""
    tokens = max(most, context)
    while tokens > context and (
        processes * scoring_bytes(config, context, tokens, backend_name) > memory
    ):
        tokens = max(context, tokens // 2)
    return tokens


def fewest_micro_batches(
    config: dict[str, Any],
    context: int,
    batch_size: int,
    memory: int,
    backend_name: str,
    lanes: int,
    optimizer: str,
    gradient_checkpointing: bool,
) -> int:
    """The fewest equal micro-batches of a step that fit ``memory``; ``batch_size`` if none do."""
    for parts in range(1, batch_size + 1):
        if batch_size % parts == 0 and memory >= training_bytes(
            config,
            context,
            batch_size // parts,
            backend_name,
            lanes,
            optimizer,
            gradient_checkpointing,
        ):
            return parts
    return batch_size


class _Numbers:
    """The sizes in a configuration that the bounds are made of, in elements."""

    def __init__(self, config: dict[str, Any], context: int) -> None:
        self.numpy = llama.knows(config)
        self.parameters = sum(parameter_counts(config))
        config = text_config(config)
        self.plain_head = config["model_type"] in (*loss_graph.PLAIN_HEADS, "mistral")
        self.vocab_size = int(config.get("vocab_size", 0))
        self.width = int(config.get("hidden_size", config.get("n_embd", 512)))
        self.layers = int(config.get("num_hidden_layers", config.get("n_layer", 1)))
        self.heads = int(config.get("num_attention_heads", config.get("n_head", 1)))
        kv_heads = int(config.get("num_key_value_heads") or self.heads)
        head_width = int(config.get("head_dim") or self.width // self.heads)
        self.hidden = int(config.get("intermediate_size") or 4 * self.width)
        self.inner = self.heads * head_width
        self.inner_all = self.inner + 2 * kv_heads * head_width
        self.copied = self.layers * (self.inner_all + 2 * self.hidden) * self.width
        self.positions = max(context, layers.CHUNK_POSITIONS)
        block = self.heads * min(attention.BLOCK_QUERIES, context) * context
        self.attention = max(attention.BLOCK_WEIGHTS, block)
