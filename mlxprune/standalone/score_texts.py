"""Score texts: a few texts in this process, for notebooks and other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxprune.config.schema import Score
from mlxprune.errors import UsageError
from mlxprune.model.architecture import read_model_config
from mlxprune.model.model_checks import check_scoring_model, usual_context
from mlxprune.model.weights import fetch_model, load_model
from mlxprune.scoring.nll import score_documents
from mlxprune.scoring.windows import resolve_policy, window_start
from mlxprune.tokenization.token_file import tokens_of
from mlxprune.units import LN2


@dataclass(frozen=True)
class TextScores:
    """One entry a text: ``nll_sum`` float64 in nats over ``num_tokens`` int64 targets, and
    ``num_bytes`` int64 of UTF-8. An empty text has no token, and NaN for what is a mean."""

    nll_sum: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray

    @property
    def perplexity(self) -> np.ndarray:
        """exp of the mean negative log-likelihood of a token."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.asarray(np.exp(self.nll_sum / self.num_tokens))

    @property
    def bits_per_byte(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.nll_sum / (LN2 * self.num_bytes))


def score_texts(
    texts: Sequence[str],
    model: str | Path,
    context: int | None = None,
    settings: Score | None = None,
) -> TextScores:
    """Score every text with a model: a folder, a run's ``references/main``, or a hub id.

    ``context``: tokens a window, by default what the model states, up to 2,048; ``settings`` as the
    section `score` of a configuration. Raises DataError: no such model; UsageError: no list of
    texts.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UsageError("texts are a list of str", "score_texts", "give [text] for one text")
    for number, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError:
            fix = "mend it: half of a surrogate pair is no text"
            raise UsageError(f"text {number} is no UTF-8", "score_texts", fix) from None
    source, chosen = fetch_model(str(model)), settings or Score()
    window = context or chosen.context or usual_context(source)
    found = check_scoring_model(source, window, "context")
    assert found.tokenizer is not None
    tokens = tokens_of(found.tokenizer, list(texts))
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    documents = np.arange(len(texts))
    if not len(documents) or not tokens.offsets[-1]:
        return TextScores(np.zeros(len(texts)), np.zeros(len(texts), np.int64), sizes)
    loaded, _ = load_model(source)
    start = window_start(chosen, found.tokenizer)
    lengths = tokens.lengths(documents)
    policy = resolve_policy(lengths, read_model_config(source), window, None, chosen, start)
    part = score_documents(loaded, tokens, documents, policy)
    return TextScores(part["nll_sum"].copy(), part["num_tokens"].copy(), sizes)
