import pytest

from dex.simulation.faults import Fault, Faults


def hits(faults: Faults, fault: Fault, venue: str = "raydium", seed: str = "tests") -> list[bool]:
    return [
        faults.hits(fault, seed=seed, venue=venue, order_id=f"ord_{number}", attempt=attempt)
        for number in range(1_000)
        for attempt in (1, 2)
    ]


def test_every_fault_of_the_documented_example_is_read() -> None:
    faults = Faults.parse("quote_unavailable=0.02,rejected=0.05, dropped=0.02 ,reply_lost=0.05,")

    assert {fault for _, fault in faults.thresholds} == set(Fault)
    assert faults.venues == frozenset()


def test_no_faults_hit_nothing() -> None:
    assert not any(hits(Faults.parse(""), Fault.REJECTED))


def test_a_fault_hits_as_often_as_it_says() -> None:
    share = sum(hits(Faults.parse("rejected=0.3"), Fault.REJECTED)) / 2_000

    assert 0.25 < share < 0.35


def test_draws_repeat_for_a_seed_and_differ_between_seeds_faults_and_venues() -> None:
    faults = Faults.parse("rejected=0.5,dropped=0.5")
    drawn = hits(faults, Fault.REJECTED)

    assert hits(faults, Fault.REJECTED) == drawn
    assert hits(faults, Fault.REJECTED, seed="other") != drawn
    assert hits(faults, Fault.REJECTED, venue="meteora") != drawn
    assert hits(faults, Fault.DROPPED) != drawn
    assert drawn[::2] != drawn[1::2]


def test_a_venues_own_probability_wins() -> None:
    faults = Faults.parse("quote_unavailable=1,meteora.quote_unavailable=0")

    assert all(hits(faults, Fault.QUOTE_UNAVAILABLE, "raydium"))
    assert not any(hits(faults, Fault.QUOTE_UNAVAILABLE, "meteora"))
    assert faults.venues == {"meteora"}


@pytest.mark.parametrize(
    "part", ["rejected", "rejected=", "rejected=2", "rejected=0.1.2", "explodes=1", "a.b.c=1", "=1"]
)
def test_a_part_that_is_not_understood_is_named(part: str) -> None:
    with pytest.raises(ValueError, match=f"'{part}'"):
        Faults.parse(f"dropped=0.1,{part}")
