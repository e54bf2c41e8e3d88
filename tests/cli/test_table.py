"""Tables and numbers as text."""

import pytest

from layerforge.cli.table import memory, scaled, table


def test_table():
    text = table(["layer", "ms"], [["conv1", "1.25"], ["fc6", "10.50"]], [["all", "11.75"]])
    assert text.splitlines() == [
        "layer     ms",
        "------------",
        "conv1   1.25",
        "fc6    10.50",
        "------------",
        "all    11.75",
    ]


@pytest.mark.parametrize(
    "number, text", [(0, "0"), (20, "20"), (999, "999"), (431080, "431 k"), (999_600, "1 M"), (1.14e9, "1.14 G")]
)
def test_scaled(number, text):
    assert scaled(number) == text


@pytest.mark.parametrize("count, text", [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (243_860_896, "232.6 MiB")])
def test_memory(count, text):
    assert memory(count) == text
