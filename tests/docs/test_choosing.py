"""The figures of the comparison with DBOS are those of the last full run of the benchmark."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT

RESULTS = (ROOT / "benchmarks" / "results" / "full.md").read_text()
ROWS = {
    "16 workflows in a host with one thread": "host: 16 workflows of 20 durable steps, 1 thread",
    "16 workflows in a host with 8 threads": "host: 16 workflows of 20 durable steps, 8 threads",
    "16 workflows in hosts of 4 processes": "host: 16 workflows of 20 durable steps, 4 processes",
    "one workflow, without a host, 1 ms of network latency each way": "workflow of 20 durable steps, 1 ms each way",
}
"""Rows of the page, and the races of the benchmark."""


@pytest.mark.parametrize("row", ROWS)
def test_documented_medians_are_measured_medians(row: str) -> None:
    [shown] = re.findall(rf"^\| {row} \| (\d[\d.]*) ms \| (\d[\d.]*) ms \| ([\d.]+) \|$", PAGES["choosing.md"], re.M)
    race = RESULTS[RESULTS.index(f"**{ROWS[row]}**") :]
    ours, theirs = (float(re.findall(rf"^\| {name} \| ([\d.]+)", race, re.M)[0]) for name in ("wfe_postgres", "DBOS"))
    assert [float(value) for value in shown[:2]] == pytest.approx([ours, theirs], rel=0.005)
    assert float(shown[2]) == pytest.approx(theirs / ours, abs=0.06)


def test_documented_version_is_the_measured_version() -> None:
    [version] = re.findall(r"with DBOS ([\d.]+\d)", PAGES["choosing.md"])
    assert f"dbos {version}" in RESULTS
