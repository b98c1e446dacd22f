"""Known columns: what is known of a document beside the fields of its row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mlxprune.data.original_rows import DocumentRows
from mlxprune.errors import UsageError, closest, one_line
from mlxprune.exporting.documents import ExportSource
from mlxprune.scoring.score_file import Scores, places_of
from mlxprune.selection.ranking import rank_documents
from mlxprune.units import LN2

TEXT_COLUMNS = ("text", "id", "domain", "source", "row", "num_bytes")
SCORE_COLUMNS = ("num_tokens", "nll_sum", "mean_nll", "perplexity", "bits_per_byte")
RANK_COLUMNS = ("rank", "position", "kept")
KNOWN = (*TEXT_COLUMNS, *SCORE_COLUMNS, *RANK_COLUMNS)


class KnownColumns:
    """Columns of the ``documents`` of an export, which are asked for in ascending order.

    ``rank`` counts from 0 in the group that the slice ranks in, -1 for a document that is too short
    to be ranked; ``position`` is the midpoint of the document's tokens or of itself among those of
    its group, from 0 to 1.
    """

    def __init__(self, source: ExportSource, documents: np.ndarray, names: list[str]) -> None:
        self.corpus, self.documents = source.corpus, documents
        self.columns: dict[str, pa.Array] = {}
        asked = [name for name in names if name in (*SCORE_COLUMNS, *RANK_COLUMNS)]
        if asked:
            self._take_scores(source, asked)
        self._ids = self._all_ids() if "id" in names else iter(())
        self._batch: tuple[int, pa.Array] = (0, pa.array([], pa.string()))

    def _take_scores(self, source: ExportSource, asked: list[str]) -> None:
        """Raises UsageError where the documents, or some of them, have no scores."""
        at = places_of(source.scored, self.documents)
        if source.scores is None or (at < 0).any():
            fix = "leave these columns away, or export the pool or a part of it"
            what = f"no scores for {', '.join(asked)}: only documents of the pool have some"
            raise UsageError(what, source.name, fix)
        scores = source.scores.take(at)
        if any(name in RANK_COLUMNS for name in asked):
            ranks = _ranks(source, source.scores)
            self.columns |= {name: pa.array(values[at]) for name, values in ranks.items()}
        self.columns |= {name: pa.array(v) for name, v in score_figures(scores).items()}

    def _all_ids(self) -> Iterator[tuple[int, pa.Array]]:
        first = 0
        for batch in self.corpus.documents():
            yield first, batch.column("id")
            first += batch.num_rows

    def of(self, name: str, rows: DocumentRows) -> pa.Array:
        """One column of some of the documents."""
        entries = self.corpus.index[rows.documents]
        if name == "text":
            return pa.array(rows.texts, pa.large_string())
        if name == "id":
            return self._ids_of(rows.documents)
        if name == "domain":
            names = pa.array(self.corpus.domains, pa.string())
            return names.take(pa.array(entries["domain"].astype(np.int64)))
        if name == "source":
            return pa.array([rows.source.name] * len(rows.documents), pa.string())
        if name == "row":
            return pa.array(entries["row"].astype(np.int64))
        if name == "num_bytes":
            return pa.array(entries["bytes"].astype(np.int64))
        at = np.searchsorted(self.documents, rows.documents)
        return self.columns[name].take(pa.array(at))

    def _ids_of(self, documents: np.ndarray) -> pa.Array:
        found = []
        left = documents
        while len(left):
            first, ids = self._batch
            inside = left[left < first + len(ids)]
            if len(inside):
                found.append(ids.take(pa.array(inside - first)))
                left = left[len(inside) :]
            if len(left):
                self._batch = next(self._ids)
        return pa.concat_arrays(found) if found else pa.array([], pa.string())


def score_figures(scores: Scores) -> dict[str, np.ndarray]:
    """SCORE_COLUMNS of scored documents."""
    mean = scores.nll_sum / scores.num_tokens
    with np.errstate(over="ignore"):
        perplexity = np.exp(mean)
    return {
        "num_tokens": scores.num_tokens,
        "nll_sum": scores.nll_sum,
        "mean_nll": mean,
        "perplexity": perplexity,
        "bits_per_byte": scores.nll_sum / (LN2 * scores.num_bytes),
    }


def _ranks(source: ExportSource, scores: Scores) -> dict[str, np.ndarray]:
    manifest, choice = source.manifest, source.choice
    if manifest is None or choice is None:
        fix = "name a slice, or leave rank, position and kept away"
        raise UsageError("ranks are those of a slice", source.name, fix)
    tokens = scores.num_tokens
    if source.held is not None:
        tokens = source.held.tokens().lengths(source.scored)
    ranked = rank_documents(scores, choice, manifest.seed, tokens)
    kept = np.isin(source.scored, source.kept)
    return {"rank": ranked.rank, "position": ranked.position(choice), "kept": kept}


def refuse_unknown(names: list[str], own: set[str]) -> None:
    """Raises UsageError for a column that neither the rows nor the run have."""
    for name in names:
        if name not in own and name not in KNOWN:
            fix = closest(name, {*own, *KNOWN})
            raise UsageError(f"no column is called {one_line(name)!r}", "--columns", fix)
