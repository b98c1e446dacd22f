"""Metric: the figure that a slice ranks by, from scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlxprune.config.slices import Difference, Slice
from mlxprune.errors import DataError, UsageError, closest, one_line
from mlxprune.scoring.score_file import Scores, read_scores
from mlxprune.units import LN2


def scores_of_slice(
    file_of: Callable[[str], Path], choice: Slice, first: str, early: str
) -> Scores:
    """The scores that a slice of a run ranks by.

    ``file_of`` gives the file of a named reference, ``first`` is the reference of slices that name
    none, ``early`` the snapshot that metric progress compares with.
    """
    names = [choice.reference or first]
    if isinstance(choice.metric, Difference):
        names = [*choice.metric.difference]
    elif choice.metric == "progress":
        names.append(early)
    for name in names:
        if not file_of(name).exists():
            fix = "run the stage score with this slice in the configuration, or choose another"
            what = "an early copy (reference.snapshots)" if name in ("", early) else repr(name)
            raise DataError(f"the run has no scores of {what}", f"slice {choice.label}", fix)
    if isinstance(choice.metric, Difference):
        a, b = (file_of(name) for name in choice.metric.difference)
        own, other = _aligned(read_scores(a), b)
        partly = [s.truncated for s in (own, other) if s.truncated is not None]
        return replace(
            own,
            other=other.nll_sum,
            truncated=np.logical_or.reduce(partly) if partly else None,
            fold=other.fold if own.fold is None else own.fold,
        )
    own = read_scores(file_of(choice.reference or first))
    if choice.metric == "progress":
        own, other = _aligned(own, file_of(early))
        return replace(own, other=other.nll_sum)
    return own


def _aligned(own: Scores, path: Path) -> tuple[Scores, Scores]:
    """Both on the documents that both have scored. Raises DataError where one of them lacks others
    than those without a finite score."""
    other = read_scores(path)
    if np.array_equal(other.key, own.key):
        return own, other
    ours, theirs = np.isin(own.key, other.key), np.isin(other.key, own.key)
    lost = max(len(own), len(other)) - int(ours.sum())
    if not ours.any() or lost > 0.1 * len(own):
        raise DataError("its documents are other ones", str(path), "score the same pool with both")
    return own.take(ours), other.take(theirs)


def metric_values(
    scores: Scores, choice: Slice | str, where: slice | np.ndarray = slice(None)
) -> np.ndarray:
    """The figure that documents are ranked by, float64 (DESIGN, Score).

    perplexity: mean NLL in nats. bpb: bits per byte. adjusted: mean NLL minus its expectation at
    that length and window policy. difference: bits per byte under a minus under b. progress: mean
    NLL of the early checkpoint minus the final one's.
    """
    name = choice if isinstance(choice, str) else choice.metric
    if scores.given is not None:
        return scores.given[where]
    if isinstance(name, Difference):
        assert scores.other is not None
        return (scores.nll_sum[where] - scores.other[where]) / (LN2 * scores.num_bytes[where])
    if name == "progress":
        assert scores.other is not None
        return (scores.other[where] - scores.nll_sum[where]) / scores.num_tokens[where]
    if name == "bpb":
        return scores.nll_sum[where] / (LN2 * scores.num_bytes[where])
    mean = scores.nll_sum[where] / scores.num_tokens[where]
    if name == "adjusted":
        assert scores.curve is not None
        mean -= expected_nll(scores.num_tokens[where], scores.curve, scores.overlap)
    return mean


def expected_nll(num_tokens: np.ndarray, curve: np.ndarray, overlap: int) -> np.ndarray:
    """Mean NLL that documents of these lengths have if every position has the corpus' mean.

    ``curve`` float64 [context] is the mean NLL at each position of a window; windows after the
    first score positions ``overlap`` to the last.
    """
    context = len(curve)
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    later, rest = np.divmod(np.maximum(num_tokens - context, 0), context - overlap)
    total = sums[np.minimum(num_tokens, context)]
    total = total + later * (sums[context] - sums[overlap])
    total += sums[overlap + rest] - sums[overlap]
    result: np.ndarray = total / num_tokens
    return result


def refuse_impossible(scores: Scores, choice: Slice) -> None:
    """Raises DataError: a metric that these scores cannot give, a domain that is not there."""
    where = f"slice {choice.label}"
    in_part = int(scores.truncated.sum()) if scores.truncated is not None else 0
    in_bytes = choice.metric == "bpb" or isinstance(choice.metric, Difference)
    if in_bytes and in_part:
        raise DataError(
            f"{in_part} documents were scored in part: their bits per byte are not known",
            f"{where}, metric bpb",
            "rank by perplexity, or score whole documents (score.long_documents: windows)",
        )
    if scores.given is not None and choice.metric != "perplexity":
        fix = "leave --metric away: these scores were made elsewhere and are ranked as they are"
        name = choice.metric_name
        raise DataError(f"these scores have no {name}", where, fix)
    if choice.metric == "adjusted" and scores.curve is None:
        fix = "score again with this version; or rank by perplexity"
        raise DataError("these scores have no mean loss by position", where, fix)
    if choice.metric == "progress" and scores.other is None:
        fix = "give the run folder, with reference.snapshots"
        raise DataError("progress needs the scores of an early checkpoint", where, fix)
    if isinstance(choice.metric, Difference) and scores.other is None:
        raise DataError("a difference needs two references", where, "give the run folder")
    if not scores.has_tokens and (choice.min_tokens > 1 or choice.by == ("domain", "length")):
        fix = "add the column, or leave lengths out of the slice"
        raise DataError("these scores have no num_tokens", where, fix)
    needs_domain = choice.by != "corpus" or choice.named_domains() or choice.bounded
    if needs_domain and scores.domain is None:
        raise DataError("these scores name no domain", where, "give --data, or by: corpus")
    refuse_unknown_domains(choice, scores.domains)


def refuse_unknown_domains(choice: Slice, known: tuple[str, ...]) -> None:
    for name in sorted(choice.named_domains() - set(known)):
        where = f"slice {choice.label}: protect, floor, cap"
        raise UsageError(f"no domain is called {one_line(name)!r}", where, closest(name, known))
