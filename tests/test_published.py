"""Published numbers."""

import pytest

from eval.flickr30k import TYPES
from eval.published import published


def test_published_numbers_keep_the_laws_of_their_measures():
    table = published()
    assert len(table.paper) == 10
    assert table.photos == 1000
    assert table.types == TYPES
    for row in table.paper:
        recall = [value for value in row.all[:3] if value is not None]
        assert recall == sorted(recall)
        for value, small in zip(row.all, row.small, strict=True):
            assert small is None or small < value
        if row.recall_5 is not None:
            assert len(row.recall_5) == len(TYPES)
            assert sum(row.recall_5) / len(TYPES) == pytest.approx(row.mean, abs=0.1)  # each is rounded
    for group in table.groups:
        for row in group.rows:
            assert row.mark in table.marks
            assert row.protocol is None or row.protocol in table.protocols
            known = [value for value in row.numbers if value is not None]
            assert known == sorted(known)
            assert known[0] > 0
            assert known[-1] < 100
            assert len(row.numbers) == 1 if group.kind == "pointing" else len(row.numbers) <= 3


def test_the_paper_is_quoted_alike_in_its_table_and_among_other_published_rows():
    paper = {row.name: row.all[:3] for row in published().paper}
    weak, _, supervised = (
        {row.method: row.numbers for row in group.rows if row.protocol in ("zhang18", "iccv15")}
        for group in published().groups
    )
    assert weak["Excitation Backprop c-MWP (MCG), tags alone"] == paper["c-MWP (MCG)"] == (26.2, 54.3, 62.2)
    assert weak["Excitation Backprop MWP (MCG), tags alone"] == paper["MWP (MCG)"]
    assert supervised["CCA, 2015"] == paper["CCA (EB)"]
