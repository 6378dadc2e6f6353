"""What every collector shares."""

from collectors.base import Sample, Samples, gauge

A, B = gauge("coroner_a", "A.", ("of",)), gauge("coroner_b", "B.", ("of",))


def test_samples_are_kept_by_metric() -> None:
    """In the order of the first of each, and all of one metric together."""
    made: list[Sample] = [(B, ("1",), 1), (A, ("1",), 2), (B, ("2",), 3)]
    samples = Samples(made)

    assert [*samples] == [made[0], made[2], made[1]]
    assert len(samples) == 3
    assert {metric.name: len(values) for metric, (_, values) in samples.columns.items()} == {"coroner_b": 2, "coroner_a": 1}
    assert Samples.of(samples) is samples
    assert [*Samples.of(made)] == [*samples]


def test_samples_that_are_added_to_others_are_not_changed() -> None:
    """Scrapes of the same moment share those of a pass."""
    shared = Samples([(A, ("1",), 1)])
    both, alone = Samples([(A, ("0",), 0)]), Samples()
    for samples in (both, alone):
        samples.add(shared)
        samples.add([(A, ("2",), 2)])

    assert [*both] == [(A, ("0",), 0), (A, ("1",), 1), (A, ("2",), 2)]
    assert [*alone] == [(A, ("1",), 1), (A, ("2",), 2)]
    assert [*shared] == [(A, ("1",), 1)]
