"""What the fault suite counts."""

from tests.faults.verify import Step, ends


def test_what_a_retry_waits_for_a_place_is_no_part_of_a_recovery() -> None:
    """Others that were lost keep their places for a lease."""
    steps = [
        Step("pending", 1, at=0, due=0, starts=False),
        Step("routing", 1, at=5, due=5, starts=True),
        Step("routing", 1, at=22, due=22, starts=False),  # taken over, and its transaction dropped
        Step("pending", 2, at=35, due=36, starts=False),
        Step("routing", 2, at=44, due=44, starts=True),
        Step("confirmed", 2, at=47, due=47, starts=False),
    ]

    assert ends({"ord": steps}, {"ord": 6.0}, {"ord": 3}) == [33.0]
    assert ends({"ord": steps[:3]}, {"ord": 2.0}, {"ord": 2}) == [20.0]  # a first start counts
