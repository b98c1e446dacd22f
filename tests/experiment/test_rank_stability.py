"""How far the ranks of references agree, from whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxprune.config.loading import validate_config
from mlxprune.errors import UsageError
from mlxprune.experiment.rank_stability import compare_references, stability_lines
from mlxprune.pipeline.runner import run_study
from mlxprune.run.folder import RunFolder
from mlxprune.scoring.score_file import read_scores
from mlxprune.testing import tiny


def test_stability_holds_the_scores_against_the_dearest(several: RunFolder) -> None:
    found = compare_references([several.path], {})
    assert found.names[0] == "long"
    assert set(found.names) == {"long", "long.at-25", "short", "unigram", "zlib"}
    kept = {}
    for name in found.names:
        own = read_scores(several.scores(name))
        lengths = read_scores(several.scores("long")).num_tokens
        size = own.num_bytes if name == "zlib" else own.num_tokens
        order = np.lexsort((own.key, own.nll_sum / size))
        middles = (np.cumsum(lengths[order]) - lengths[order] / 2) / lengths.sum()
        kept[name] = set(own.key[order[middles >= 0.5]].tolist())
    for i, a in enumerate(found.names):
        for j, b in enumerate(found.names):
            both = 2 * len(kept[a] & kept[b]) / (len(kept[a]) + len(kept[b]))
            assert found.overlap[i][j] == pytest.approx(both, abs=0.02)
    assert found.scores[0].spearman == 1.0
    costs = [row.flops for row in found.scores]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 0
    text = "\n".join(stability_lines(found))
    assert "long.at-25" in text
    assert "by chance" in text


@pytest.mark.slow
def test_stability_of_one_score_or_of_two_corpora_is_refused(
    several: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        compare_references([tmp_path], {})
    other = RunFolder(tmp_path / "other")
    corpus = tiny.tiny_corpus(tmp_path / "corpus", seed=5)
    run_study(validate_config(tiny.tiny_config(corpus), "test"), other, until="score")
    with pytest.raises(UsageError) as caught:
        compare_references([several.path, other.path], {})
    assert "share" in caught.value.problem
