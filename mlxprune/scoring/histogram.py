"""The live histogram of scored documents, whole and by domain, as an event shows it."""

from __future__ import annotations

import numpy as np

from mlxprune.run.event_kinds import DomainAdded, DomainHistogram, Histogram, HistogramAdded

HISTOGRAM_EDGES = np.linspace(0.0, 16.0, 161)  # mean negative log-likelihood in nats
DOMAINS_SHOWN = 24  # the largest; the others are one row


def bins_of(rows: np.ndarray) -> np.ndarray:
    """The bin of each PART row, int64, by its mean loss; rows without a finite one are left out."""
    able = rows[(rows["num_tokens"] > 0) & np.isfinite(rows["nll_sum"])]
    mean = np.clip(able["nll_sum"] / able["num_tokens"], HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    place = np.searchsorted(HISTOGRAM_EDGES, mean, side="right") - 1
    bins: np.ndarray = np.minimum(place, len(HISTOGRAM_EDGES) - 2)
    return bins


class LossHistogram:
    """Counts of documents, tokens and bytes by bin, and of documents by domain and bin.

    ``domain`` codes and ``sizes`` in bytes of the documents that are to be scored, in their order.
    """

    def __init__(self, domain: np.ndarray, names: list[str], sizes: np.ndarray) -> None:
        self.domain, self.sizes = domain, sizes
        largest = np.argsort(-np.bincount(domain, minlength=len(names)), kind="stable")
        shown = largest[:DOMAINS_SHOWN]
        self.names = [names[code] for code in shown.tolist()]
        self.row = np.full(len(names), len(shown), np.int64)
        self.row[shown] = np.arange(len(shown))
        self.whole = np.zeros((3, len(HISTOGRAM_EDGES) - 1), np.int64)  # documents, tokens, bytes
        self.by_domain = np.zeros((len(shown) + 1, len(HISTOGRAM_EDGES) - 1), np.int64)
        self.sums = np.zeros((len(shown) + 1, 3))  # nll, tokens, bytes
        self.hands: dict[int, np.ndarray] = {}  # by worker: documents in hand, by bin
        self._remember()

    def _remember(self) -> None:
        """What has been told by now."""
        self.told = self.whole.copy(), self.by_domain.copy(), self.sums.copy()
        self.told_in_hand = self._in_hand()

    def add(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Documents at these places among all, and their rows (score.PART)."""
        able = (rows["num_tokens"] > 0) & np.isfinite(rows["nll_sum"])
        places, rows = places[able], rows[able]
        tokens, sizes = rows["num_tokens"], self.sizes[places].astype(np.int64)
        place = bins_of(rows)
        row = self.row[self.domain[places]]
        for target, weights in zip(self.whole, (1, tokens, sizes), strict=True):
            np.add.at(target, place, weights)
        np.add.at(self.by_domain, (row, place), 1)
        np.add.at(self.sums, row, np.stack([rows["nll_sum"], tokens, sizes], axis=1))

    def take_in_hand(self, worker: int, counts: np.ndarray) -> None:
        """What a worker has in hand now, by bin, in place of what it had."""
        self.hands[worker] = counts

    def _in_hand(self) -> tuple[list[int], list[int]]:
        """Bins of documents in hand, and how many are in each."""
        counts = sum(self.hands.values(), start=np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64))
        filled = np.flatnonzero(counts)
        return filled.tolist(), counts[filled].tolist()

    def added(self) -> HistogramAdded | None:
        """What came since the last of these and of ``event``; None where that is nothing."""
        whole, by_domain, sums = (
            now - before
            for now, before in zip((self.whole, self.by_domain, self.sums), self.told, strict=True)
        )
        bins = np.flatnonzero(whole.any(axis=0))
        hand = self._in_hand()
        if not len(bins) and hand == self.told_in_hand:
            return None
        self._remember()
        documents, tokens, sizes = whole[:, bins].tolist()
        domains = {}
        for name, counts, (nll, in_tokens, in_bytes) in zip(
            [*self.names, "(others)"], by_domain, sums.tolist(), strict=True
        ):
            filled = np.flatnonzero(counts)
            if len(filled):
                domains[name] = DomainAdded(
                    bins=filled.tolist(),
                    counts=counts[filled].tolist(),
                    nll=nll,
                    tokens=in_tokens,
                    bytes=in_bytes,
                )
        return HistogramAdded(
            bins=bins.tolist(),
            documents=documents,
            tokens=tokens,
            bytes=sizes,
            domains=domains,
            in_hand_bins=hand[0],
            in_hand=hand[1],
        )

    def event(self) -> Histogram:
        """All so far. A domain's counts begin at its first filled bin."""
        self._remember()
        documents, tokens, sizes = self.whole.tolist()
        bins, in_hand = self._in_hand()
        domains = {}
        for name, counts, sums in zip(
            [*self.names, "(others)"], self.by_domain, self.sums.tolist(), strict=True
        ):
            filled = np.flatnonzero(counts)
            if len(filled):
                first, last = int(filled[0]), int(filled[-1])
                nll, in_tokens, in_bytes = sums
                domains[name] = DomainHistogram(
                    first=first,
                    counts=counts[first : last + 1].tolist(),
                    nll=nll,
                    tokens=in_tokens,
                    bytes=in_bytes,
                )
        return Histogram(
            edges=HISTOGRAM_EDGES.tolist(),
            documents=documents,
            tokens=tokens,
            bytes=sizes,
            domains=domains,
            in_hand_bins=bins,
            in_hand=in_hand,
        )
