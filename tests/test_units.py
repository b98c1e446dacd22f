"""How numbers are written for people."""

from __future__ import annotations

import pytest

from mlxprune.units import ago, count, duration, short_duration, size


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.04, "7.0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_in_words() -> None:
    assert [count(n) for n in (0, 1234, 123_456, 1_234_567, 12_345_678, None)] == [
        "0", "1,234", "123.5k", "1.23M", "12.3M", "-",
    ]  # fmt: skip
    assert [short_duration(s) for s in (0, 65, 3723, 86400 * 3, None)] == [
        "0s", "1m05s", "1h02m", "3d00h", "-",
    ]  # fmt: skip
    assert size(1.5e9) == "1.5 GB"
    assert ago(0.44) == "0.4 s"
