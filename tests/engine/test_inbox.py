"""What waits for a socket: bounded, and nothing of a followed order is lost."""

from orders.events import order_group, owner_group
from orders.hub import INBOX_SIZE, Bell, Inbox


async def test_more_followed_orders_than_any_bound_are_all_announced() -> None:
    inbox = Inbox()
    order_ids = [f"ord_{n}" for n in range(INBOX_SIZE + 60)]

    for _ in range(3):
        for order_id in order_ids:
            inbox.ring(Bell(order_group(order_id), order_id, 2))

    assert [(await inbox.get()).order_id for _ in order_ids] == order_ids


async def test_of_one_order_the_newest_bell_is_kept() -> None:
    inbox = Inbox()
    for seq in (2, 4, 3):
        inbox.ring(Bell(order_group("ord_1"), "ord_1", seq))

    assert (await inbox.get()).seq == 4


async def test_what_an_owner_hears_is_kept_one_by_one_up_to_a_bound() -> None:
    inbox = Inbox()
    for seq in range(INBOX_SIZE + 10):
        inbox.ring(Bell(owner_group(None), "ord_1", seq))

    assert [(await inbox.get()).seq for _ in range(INBOX_SIZE)] == list(range(INBOX_SIZE))
