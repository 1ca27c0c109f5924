"""Waiting for many swaps with one question."""

import asyncio
from collections.abc import Sequence

import pytest

from dex import watch
from dex.errors import OrderRejected, VenueUnavailable
from dex.tokens import SOL, USDC
from dex.types import Fill, Swap, SwapRequest, SwapState, SwapStatus
from dex.watch import Watch, Watcher

PENDING, UNKNOWN = SwapState(status=SwapStatus.PENDING), SwapState(status=SwapStatus.UNKNOWN)
PAUSE = 0.01
EXPIRED = SwapState(status=SwapStatus.EXPIRED, error_code="TX_EXPIRED", error="late")


def a_swap(signature: str) -> Swap:
    return Swap(
        request=SwapRequest(token_in=SOL, token_out=USDC, amount_in=1, slippage_bps=1),
        venue="raydium",
        signature=signature,
        transaction=b"",
        last_valid_block_height=1,
    )


class Chain:
    """Knows what it is told; keeps the questions. An exception is raised."""

    def __init__(self) -> None:
        self.states: dict[str, SwapState | Exception] = {}
        self.questions: list[list[str]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    async def ask(self, swaps: Sequence[Swap]) -> list[SwapState]:
        self.questions.append([swap.signature for swap in swaps])
        self.asked.set()
        await self.answers.wait()
        found = [self.states.get(swap.signature, PENDING) for swap in swaps]
        for state in found:
            if isinstance(state, Exception):
                raise state
        return [state for state in found if isinstance(state, SwapState)]


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def watcher(chain: Chain) -> Watcher:
    return Watcher(chain.ask, PAUSE)


async def test_what_has_landed_is_told_by_the_first_question(
    chain: Chain, watcher: Watcher
) -> None:
    chain.states["a"] = EXPIRED

    with watcher.watch(a_swap("a")) as watch:
        assert await watch.next_state(5) == EXPIRED


async def test_pending_is_answered_after_the_time_given_and_asked_again(
    chain: Chain, watcher: Watcher
) -> None:
    with watcher.watch(a_swap("a")) as watch:
        assert await watch.next_state(0.01) == PENDING
        chain.states["a"] = EXPIRED
        assert await watch.next_state(5) == EXPIRED


async def test_an_unknown_swap_is_told_each_time(chain: Chain, watcher: Watcher) -> None:
    chain.states["a"] = UNKNOWN

    with watcher.watch(a_swap("a")) as watch:
        assert [await watch.next_state(5) for _ in range(3)] == [UNKNOWN] * 3


async def test_of_what_was_told_while_nobody_looked_the_newest_counts(
    chain: Chain, watcher: Watcher
) -> None:
    chain.states["a"] = UNKNOWN

    with watcher.watch(a_swap("a")) as watch:
        async with asyncio.timeout(5):
            while len(chain.questions) < 5:  # noqa: ASYNC110 - the chain is asked, we do not look
                await asyncio.sleep(PAUSE)
        chain.states["a"] = EXPIRED
        asked = len(chain.questions)
        while len(chain.questions) < asked + 2:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)

        assert await watch.next_state(5) == EXPIRED


async def test_a_chain_that_does_not_answer_is_not_asked_at_every_turn(
    chain: Chain, watcher: Watcher
) -> None:
    chain.states["a"] = VenueUnavailable("X", "no answer")

    with watcher.watch(a_swap("a")):
        await asyncio.sleep(0.3)  # thirty pauses

    assert len(chain.questions) == 1


async def test_the_pause_between_two_questions_is_the_venues(chain: Chain) -> None:
    watcher = Watcher(chain.ask, 60)

    with watcher.watch(a_swap("a")) as watch:
        assert await watch.next_state(0.2) == PENDING

    assert len(chain.questions) == 1


async def test_the_pause_is_longer_for_each_that_is_asked_for(
    chain: Chain, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dex.watch.POLL_SECONDS_EACH", 60)

    with watcher.watch(a_swap("a")) as watch:
        assert await watch.next_state(0.2) == PENDING  # twenty pauses

    assert len(chain.questions) == 1


async def test_a_venue_that_fails_is_asked_no_sooner_than_one_that_answers(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dex.watch.FAILED_PAUSE_SECONDS", PAUSE)
    chain.states["a"] = VenueUnavailable("X", "no answer")

    with Watcher(chain.ask, 60).watch(a_swap("a")):
        await asyncio.sleep(0.2)

    assert len(chain.questions) == 1


async def test_swaps_that_come_while_a_question_is_under_way_are_asked_for_together(
    chain: Chain, watcher: Watcher
) -> None:
    chain.answers.clear()
    watches = [watcher.watch(a_swap("a"))]
    await chain.asked.wait()
    watches += [watcher.watch(a_swap(signature)) for signature in "bcd"]
    chain.states |= dict.fromkeys("abcd", EXPIRED)
    chain.answers.set()

    assert [await watch.next_state(5) for watch in watches] == [EXPIRED] * 4
    assert {"b", "c", "d"} <= set(chain.questions[1])


async def test_what_nobody_waits_for_is_not_asked_for(chain: Chain, watcher: Watcher) -> None:
    with watcher.watch(a_swap("a")) as watch:
        await watch.next_state(0.1)
    with watcher.watch(a_swap("b")) as other:
        await other.next_state(0.1)

    assert "a" not in chain.questions[-1]


@pytest.mark.parametrize("error", [VenueUnavailable("X", "no answer"), KeyError("a bug")])
async def test_what_asking_raises_is_raised_to_who_waits_and_the_watcher_lives_on(
    error: Exception, chain: Chain, watcher: Watcher
) -> None:
    chain.states["a"] = error

    with watcher.watch(a_swap("a")) as watch:
        with pytest.raises(type(error)):
            await watch.next_state(5)
        chain.states["a"] = EXPIRED
        while await told(watch) != EXPIRED:
            pass


@pytest.mark.parametrize("error", [VenueUnavailable("X", "no answer"), OrderRejected("X", "no")])
async def test_an_error_of_one_swap_is_raised_to_who_waits_for_it_and_slows_no_other(
    error: Exception,
) -> None:
    questions: list[int] = []

    async def ask(swaps: Sequence[Swap]) -> list[SwapState | Exception]:
        questions.append(len(swaps))
        return [error if swap.signature == "bad" else PENDING for swap in swaps]

    watcher = Watcher(ask, PAUSE)
    with watcher.watch(a_swap("bad")) as bad, watcher.watch(a_swap("good")) as good:
        with pytest.raises(type(error)):
            await bad.next_state(5)
        assert await good.next_state(0.3) == PENDING  # thirty pauses

    assert len(questions) > 3


async def told(watch: Watch) -> object:
    try:
        return await watch.next_state(5)
    except Exception as error:
        return error


async def test_a_fill_is_passed_on(chain: Chain, watcher: Watcher) -> None:
    fill = Fill(amount_in=1, amount_out=2)
    chain.states["a"] = SwapState(status=SwapStatus.LANDED, fill=fill)

    with watcher.watch(a_swap("a")) as watch:
        assert (await watch.next_state(5)).fill == fill


async def test_a_venue_that_leaves_an_answer_out_is_a_fault_to_all_and_is_asked_again() -> None:
    answers = [[EXPIRED], [EXPIRED, EXPIRED]]

    async def ask(swaps: Sequence[Swap]) -> list[SwapState]:
        return answers.pop(0)

    watcher = Watcher(ask, PAUSE)
    with watcher.watch(a_swap("a")) as watch, watcher.watch(a_swap("b")) as other:
        for each in (watch, other):
            with pytest.raises(ValueError, match="zip"):
                await each.next_state(5)
        assert [await watch.next_state(5), await other.next_state(5)] == [EXPIRED] * 2


async def test_a_watcher_whose_task_was_ended_begins_another(
    chain: Chain, watcher: Watcher
) -> None:
    with watcher.watch(a_swap("a")):
        await chain.asked.wait()
        assert watcher._task is not None
        watcher._task.cancel()
        await asyncio.wait([watcher._task])

    chain.states["b"] = EXPIRED
    with watcher.watch(a_swap("b")) as watch:
        assert await watch.next_state(1) == EXPIRED


async def test_a_question_that_is_never_answered_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.05)

    async def never(_: Sequence[Swap]) -> Sequence[SwapState]:
        await asyncio.sleep(60)
        raise AssertionError

    with (
        Watcher(never, PAUSE).watch(a_swap("one")) as waiting,
        pytest.raises(VenueUnavailable, match="no answer in"),
    ):
        await waiting.next_state(5)
