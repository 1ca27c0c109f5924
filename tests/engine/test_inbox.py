"""What waits for a socket: bounded, in order, and nothing of a followed order is lost."""

import asyncio

import pytest

from orders import bells
from orders.bells import INBOX_SIZE, Bell, Inbox, InOrder
from orders.events import order_group, owner_group


async def test_more_followed_orders_than_any_bound_are_all_announced() -> None:
    inbox = Inbox()
    order_ids = [f"ord_{n}" for n in range(INBOX_SIZE + 60)]

    for _ in range(3):
        for order_id in order_ids:
            inbox.ring(Bell(order_group(order_id), order_id, 2))

    assert [(inbox.take()).order_id for _ in order_ids] == order_ids


async def test_of_one_order_the_newest_bell_is_kept() -> None:
    inbox = Inbox()
    for seq in (2, 4, 3):
        inbox.ring(Bell(order_group("ord_1"), "ord_1", seq))

    assert (inbox.take()).seq == 4


async def test_what_directly_follows_is_heard_one_by_one() -> None:
    inbox = Inbox()
    rung = {1: [2, 3], 2: [2, 3, 3, 2, 4], 3: [2, 3, 5, 6]}
    for order, seqs in rung.items():
        for seq in seqs:
            inbox.ring(Bell(order_group(f"ord_{order}"), f"ord_{order}", seq))

    heard = [inbox.take() for _ in range(7)]

    assert [(bell.order_id, bell.seq) for bell in heard] == [
        *(("ord_1", seq) for seq in (2, 3)),
        *(("ord_2", seq) for seq in (2, 3, 4)),
        *(("ord_3", seq) for seq in (5, 6)),
    ]


def owners(order_id: str, seq: int) -> Bell:
    return Bell(owner_group(None), order_id, seq, {}, "text")


async def test_what_an_owner_hears_is_kept_one_by_one_and_then_where_each_order_begins() -> None:
    inbox = Inbox()
    for seq in range(1, INBOX_SIZE + 10):
        inbox.ring(owners("ord_1", seq))
    for seq in (3, 4):
        inbox.ring(owners("ord_2", seq))

    heard = [inbox.take() for _ in range(INBOX_SIZE + 2)]

    assert [(bell.seq, bell.text) for bell in heard[:INBOX_SIZE]] == [
        (seq, "text") for seq in range(1, INBOX_SIZE + 1)
    ]
    assert [(bell.order_id, bell.seq, bell.frame) for bell in heard[INBOX_SIZE:]] == [
        ("ord_1", INBOX_SIZE + 1, None),
        ("ord_2", 3, None),
    ]
    assert not inbox.overflowed


async def test_what_was_put_back_comes_before_what_follows_it() -> None:
    inbox = Inbox()
    inbox.ring(owners("ord_1", 1))
    bell = inbox.take()
    inbox.ring(owners("ord_1", 2))

    inbox.put_back(bell)

    assert [(one.seq, one.frame) for one in (inbox.take(), inbox.take())] == [
        (1, None),
        (2, {}),
    ]


async def test_what_was_put_back_begins_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "INBOX_SIZE", 0)
    inbox = Inbox()
    inbox.ring(owners("ord_1", 1))
    bell = inbox.take()
    inbox.ring(owners("ord_1", 2))

    inbox.put_back(bell)

    assert (inbox.take()).seq == 1


async def test_an_inbox_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "INBOX_SIZE", 1)
    monkeypatch.setattr(bells, "MOST_BEHIND", 2)
    inbox = Inbox()
    for number in range(2):
        inbox.ring(owners(f"ord_{number}", 1))
    assert not inbox.overflowed

    inbox.ring(owners("ord_2", 1))

    assert inbox.overflowed


class Heard:
    """What came through, as (order, seq)."""

    def __init__(self) -> None:
        self.seqs: list[tuple[str, int]] = []
        self.missed: list[str] = []
        self.in_order = InOrder(
            lambda bell: self.seqs.append((bell.order_id, bell.seq)),
            lambda key: self.missed.append(key[1]),
        )

    def ring(self, *seqs: int, order_id: str = "a") -> None:
        for seq in seqs:
            self.in_order.ring(Bell(owner_group(None), order_id, seq))

    async def until_missed(self, *order_ids: str) -> None:
        async with asyncio.timeout(5):
            while self.missed != list(order_ids):  # noqa: ASYNC110 - a timer's
                await asyncio.sleep(0.01)


async def test_a_worker_that_is_heard_before_the_web_process_waits_for_it() -> None:
    heard = Heard()
    heard.ring(2, 3)
    heard.ring(1, 2, order_id="b")
    assert heard.seqs == [("b", 1), ("b", 2)]

    heard.ring(1, 4)

    assert heard.seqs[2:] == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]


async def test_each_gap_is_waited_for_anew() -> None:
    heard = Heard()
    heard.ring(2, 1)
    assert not heard.in_order._patience
    heard.ring(4)
    assert len(heard.in_order._patience) == 1

    heard.ring(3)

    assert heard.seqs == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]
    assert not heard.in_order._early
    assert not heard.in_order._patience


async def test_a_gap_is_waited_for_as_long_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.05)
    heard = Heard()
    heard.ring(2, 1)  # the wait for 1 is over
    monkeypatch.setattr(bells, "WAIT_SECONDS", 60)
    heard.ring(4)

    await asyncio.sleep(0.2)

    assert heard.missed == []


async def test_one_that_is_heard_twice_is_passed_on_once() -> None:
    heard = Heard()
    heard.ring(1, 2, 2, 1, 3)

    assert heard.seqs == [("a", 1), ("a", 2), ("a", 3)]


KEY = (owner_group(None), "a")


async def test_what_is_lost_is_read_and_what_waited_for_it_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(1, 5, 4)
    await heard.until_missed("a")
    heard.ring(7)

    for seq in (1, 2, 3, 4):  # the rows there are
        heard.in_order.fill(Bell(*KEY, seq))
    heard.in_order.settle(KEY, 7)
    heard.ring(2, 3, 8)

    assert heard.seqs == [("a", seq) for seq in (1, 2, 3, 4, 5, 7, 8)]
    assert not heard.in_order._early


async def test_what_came_while_the_rows_were_read_waits_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(1, 3)
    await heard.until_missed("a")
    last = heard.in_order.waiting(KEY)
    heard.ring(5, 7)

    heard.in_order.fill(Bell(*KEY, 2))
    heard.in_order.settle(KEY, last)
    heard.ring(4)
    assert heard.seqs == [("a", seq) for seq in (1, 2, 3, 4, 5)]

    heard.missed.clear()
    await heard.until_missed("a")
    heard.in_order.fill(Bell(*KEY, 6))
    assert heard.seqs[5:] == [("a", 6), ("a", 7)]
    assert not heard.in_order._early


async def test_without_the_rows_what_waited_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(1, 4, 3)
    await heard.until_missed("a")

    heard.in_order.settle(KEY, 4)
    heard.ring(2, 5, 2)
    heard.in_order.fill(Bell(*KEY, 2))

    assert heard.seqs == [("a", seq) for seq in (1, 3, 4, 5)]  # never after one that follows it


async def test_what_waits_is_passed_on_before_what_is_read_and_follows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(5, 6, 8)
    await heard.until_missed("a")

    heard.in_order.fill(Bell(*KEY, 9))
    heard.in_order.settle(KEY, 8)
    heard.ring(7, 10)

    assert heard.seqs == [("a", seq) for seq in (5, 6, 8, 9, 10)]
    assert not heard.in_order._early


async def test_what_is_read_before_it_was_missed_is_not_waited_for_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(3)
    heard.in_order.settle(KEY, 3)
    heard.ring(5)

    await heard.until_missed("a")
    await asyncio.sleep(0.05)

    assert (heard.seqs, heard.missed) == ([("a", 3)], ["a"])


async def test_an_order_that_is_first_heard_of_on_its_way_may_have_been_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.01)
    heard = Heard()
    heard.ring(4, 6)
    await heard.until_missed("a")

    heard.in_order.fill(Bell(*KEY, 4))  # the others were before anybody listened
    heard.in_order.settle(KEY, 6)

    assert heard.seqs == [("a", 4), ("a", 6)]
    assert heard.in_order.newest(KEY) == 6
    assert heard.in_order.newest((KEY[0], "b")) == 0


async def test_who_hears_a_group_from_now_on_has_heard_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "WAIT_SECONDS", 0.05)
    heard = Heard()
    heard.ring(1, 2, 4)

    heard.in_order.forget(KEY[0])
    await asyncio.sleep(0.2)

    assert heard.missed == []
    assert heard.in_order.newest(KEY) == 0
    assert not heard.in_order._early


async def test_of_many_orders_those_heard_of_last_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "MOST_KNOWN", 2)
    heard = Heard()
    heard.ring(1)
    heard.ring(1, order_id="b")
    heard.ring(2)
    heard.ring(1, order_id="c")

    heard.ring(3)
    heard.ring(1, 1, order_id="b")  # no longer known: heard once more

    assert heard.seqs[4:] == [("a", 3), ("b", 1)]
