"""API keys: made once, shown once, checked the same way over REST and WebSocket."""

import asyncio
import io
import logging
import re
import time
from collections.abc import Callable
from hashlib import sha256

import psycopg
import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import Client

from orders import consumers, database, keys
from orders.models import ApiKey
from tests.api.http import bearer, execute, order_body, placed, problem, stored_orders
from tests.api.sockets import Connect, refusal

pytestmark = pytest.mark.usefixtures("no_orders")

UNKNOWN = f"oee_{'a' * 8}_{'b' * 43}"
REFUSED = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    f"Bearer {UNKNOWN}",
    f"Bearer {UNKNOWN}x",
    f"Bearer {UNKNOWN[:-1]}",
    f"Bearer {UNKNOWN[:-1]}\xe9",
    f"Token {UNKNOWN}",
    UNKNOWN,
    "Basic YWxpY2U6YSBsb25nIGVub3VnaCBwYXNzd29yZA==",  # alice and her password
]


@pytest.fixture
def no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request asks the database."""
    for module in (keys, consumers):
        monkeypatch.setattr(module, "TRUST_SECONDS", 0.0)


def listed(client: Client, key: str) -> HttpResponse:
    return client.get("/api/orders", headers={"Authorization": f"Bearer {key}"})


def stored() -> dict[str, object]:
    (row,) = database.rows("SELECT * FROM orders_apikey", {})
    return row


def test_a_key_signs_in_as_its_owner(client: Client, alice: User) -> None:
    key = keys.create(alice.pk, "trading bot")

    order_id = placed(client, Authorization=f"bearer {key}")

    owner = database.row("SELECT owner_id FROM orders_order WHERE id = %(id)s", {"id": order_id})
    assert owner == {"owner_id": alice.pk}


def test_a_key_has_a_prefix_and_256_random_bits_of_which_a_hash_is_stored(alice: User) -> None:
    key = keys.create(alice.pk)

    row = stored()
    assert re.fullmatch(rf"oee_{row['prefix']}_[A-Za-z0-9_-]{{43}}", key)
    assert row["digest"] == sha256(key.encode()).hexdigest()
    assert key[13:] not in str(row)
    assert keys.create(alice.pk)[:12] != key[:12]


@pytest.mark.parametrize("header", REFUSED)
def test_what_is_no_key_of_ours_is_401(client: Client, alice: User, header: str) -> None:
    response = client.get("/api/orders", headers={"Authorization": header})

    problem(response, 401, "NOT_AUTHENTICATED")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", REFUSED)
async def test_what_is_no_key_of_ours_is_4401(connect: Connect, alice: User, header: str) -> None:
    socket = await connect(Authorization=header)

    await refusal(socket, 401, "NOT_AUTHENTICATED")
    assert await socket.close_code() == 4401


def test_another_secret_with_a_known_prefix_is_401(client: Client, alice: User) -> None:
    key = keys.create(alice.pk)

    problem(listed(client, key[:-43] + "c" * 43), 401)
    assert stored()["last_used_at"] is None


def test_a_key_is_refused_soon_after_it_was_revoked(client: Client, alice: User) -> None:
    key = keys.create(alice.pk)
    assert listed(client, key).status_code == 200

    keys.revoke(key[4:12])

    deadline = time.monotonic() + keys.TRUST_SECONDS + 1
    while listed(client, key).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    problem(listed(client, key), 401)


def test_a_revoked_key_keeps_the_moment_and_its_last_use(client: Client, alice: User) -> None:
    key = keys.create(alice.pk)
    keys.revoke(key[4:12])
    before = stored()

    keys.revoke(key[4:12])
    problem(listed(client, key), 401)

    assert before["revoked_at"] is not None
    assert stored() == before


@pytest.mark.usefixtures("no_trust")
def test_a_key_of_a_user_who_may_not_sign_in_is_refused(client: Client, alice: User) -> None:
    key = keys.create(alice.pk)
    User.objects.filter(pk=alice.pk).update(is_active=False)

    problem(listed(client, key), 401)


def test_a_key_that_was_just_good_costs_no_query(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, asked = keys.create(alice.pk), []
    ask = database.row
    monkeypatch.setattr(keys.database, "row", lambda *a: asked.append(a) or ask(*a))

    keys.caller_of_key(f"Bearer {key}")
    assert len(asked) == 1
    keys.caller_of_key(f"Bearer {key}")
    assert len(asked) == 1


def test_no_more_keys_are_trusted_than_there_is_room_for(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_TRUSTED", 2)

    for _ in range(5):
        keys.caller_of_key(bearer(alice))
        assert len(keys._trusted) <= 2


@pytest.mark.usefixtures("no_trust")
def test_the_last_use_is_written_once_a_minute(client: Client, alice: User) -> None:
    key = keys.create(alice.pk)
    listed(client, key)
    first = stored()["last_used_at"]
    listed(client, key)

    assert first is not None
    assert stored()["last_used_at"] == first

    ago = "UPDATE orders_apikey SET last_used_at = now() - interval '61 s' RETURNING last_used_at"
    earlier = database.rows(ago, {})[0]["last_used_at"]
    listed(client, key)
    assert stored()["last_used_at"] > earlier


def test_while_postgresql_is_away_a_key_is_neither_good_nor_bad(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.create(alice.pk)

    def away(*_: object) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(keys.database, "row", away)

    problem(listed(client, key), 503)


@pytest.mark.usefixtures("no_trust")
async def test_a_revoked_key_ends_its_socket_at_the_next_frame(
    connect: Connect, alice: User
) -> None:
    header = bearer(alice)
    socket = await connect(Authorization=header)
    await socket.hello()

    await asyncio.to_thread(keys.revoke, header[11:19])
    await socket.send(type="order.submit", requestId="r-1", order=order_body())

    assert (await refusal(socket, 401))["inReplyTo"] == "r-1"
    assert await socket.close_code() == 4401
    assert await asyncio.to_thread(stored_orders) == []


@pytest.mark.usefixtures("no_trust")
async def test_a_user_who_may_not_sign_in_loses_the_socket_of_a_key(
    connect: Connect, alice: User
) -> None:
    socket = await connect(Authorization=bearer(alice))
    await socket.hello()

    await database_sync_to_async(User.objects.filter(pk=alice.pk).update)(is_active=False)
    await socket.send(type="order.submit", requestId="r-1", order=order_body())

    assert (await refusal(socket, 401))["inReplyTo"] == "r-1"
    assert await socket.close_code() == 4401
    assert await asyncio.to_thread(stored_orders) == []


@pytest.mark.usefixtures("no_trust")
async def test_a_revoked_key_ends_its_silent_socket_at_a_heartbeat(
    connect: Connect, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HEARTBEAT_SECONDS", 0.05)
    header = bearer(alice)
    socket = await connect(Authorization=header)
    await socket.hello()
    assert (await socket.receive())["type"] == "heartbeat"

    await asyncio.to_thread(keys.revoke, header[11:19])

    while (frame := await socket.receive())["type"] == "heartbeat":
        pass
    assert frame["status"] == 401
    assert await socket.close_code() == 4401


@pytest.mark.usefixtures("no_trust")
async def test_while_postgresql_is_away_an_open_socket_stays(
    connect: Connect, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    answers = iter([psycopg.OperationalError("away"), None])

    def away_or_silent(*_: object) -> None:
        if error := next(answers, None):
            raise error
        time.sleep(0.2)

    monkeypatch.setattr(keys, "check_still_good", away_or_silent)
    socket = await connect(Authorization=bearer(alice))
    await socket.hello()

    assert [(await socket.receive())["type"] for _ in range(4)] == ["heartbeat"] * 4


def test_a_key_is_in_no_log(
    client: Client,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = keys.create(alice.pk)
    with caplog.at_level(logging.DEBUG):
        listed(client, key)
        placed(client, Authorization=f"Bearer {key}")
        refused = execute(client, Authorization=f"Bearer {key}x")

    ours = capsys.readouterr().err
    assert "order.moved" in ours
    assert key not in ours + caplog.text + refused.text


# The command line --------------------------------------------------------------------------------


def apikey(*arguments: str) -> str:
    out = io.StringIO()
    call_command("apikey", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_the_command_makes_lists_and_revokes(client: Client, alice: User) -> None:
    key = apikey("create", "alice", "--label", "bot")
    assert listed(client, key).status_code == 200

    shown = apikey("list")
    assert key[4:12] in shown
    assert "alice" in shown
    assert "bot" in shown
    assert key[13:] not in shown

    assert "2 s" in apikey("revoke", key[4:12])
    keys._trusted.clear()
    problem(listed(client, key), 401)


def test_a_label_does_nothing_to_a_terminal(alice: User) -> None:
    apikey("create", "alice", "--label", "\x1b[31mred\nsecond line")

    assert "[31mred second line" in apikey("list").splitlines()[1]
    assert "\x1b" not in apikey("list")


def test_the_command_makes_a_user_only_when_told_to(client: Client, alice: User) -> None:
    with pytest.raises(CommandError, match="carol"):
        apikey("create", "carol")

    assert listed(client, apikey("create", "carol", "--new-user")).status_code == 200
    assert not User.objects.get(username="carol").has_usable_password()


@pytest.mark.parametrize(
    ("username", "reason"),
    [("", "blank"), ("x" * 151, "150 characters"), ("a b", "valid username")],
)
def test_the_command_says_what_is_no_name(alice: User, username: str, reason: str) -> None:
    with pytest.raises(CommandError, match=f"^username '{username}': .*{reason}"):
        apikey("create", username, "--new-user")


def test_the_command_knows_no_other_keys() -> None:
    with pytest.raises(CommandError, match="nothere1"):
        apikey("revoke", "nothere1")


# The admin ---------------------------------------------------------------------------------------


@pytest.fixture
def operator(make_user: Callable[..., User]) -> Client:
    client = Client()
    client.force_login(make_user("operator", is_staff=True, is_superuser=True))
    return client


def test_the_admin_shows_a_new_key_once(operator: Client, client: Client) -> None:
    owner = User.objects.get(username="operator")

    made = operator.post("/admin/orders/apikey/add/", {"owner": owner.pk, "label": "bot"})

    (key,) = re.findall(r"oee_\w{8}_[\w-]{43}", made.text)
    assert "no-store" in made["Cache-Control"]
    assert key not in str(made.cookies)
    assert listed(client, key).status_code == 200
    pk = ApiKey.objects.get().pk
    for page in ("/admin/", "/admin/orders/apikey/", f"/admin/orders/apikey/{pk}/change/"):
        shown = operator.get(page).text
        assert key[13:] not in shown
        assert stored()["digest"] not in shown


def test_the_form_of_a_new_key_sent_again_makes_no_second_one(operator: Client) -> None:
    add = "/admin/orders/apikey/add/"
    (prefix,) = re.findall(r'name="new_prefix" value="(\w{8})"', operator.get(add).text)
    form = {"owner": User.objects.get(username="operator").pk, "label": "bot", "new_prefix": prefix}

    made, again = operator.post(add, form), operator.post(add, form)

    assert re.findall(r"oee_(\w{8})_[\w-]{43}", made.text) == [prefix]
    assert f"This form has made the key {prefix}" in again.text
    assert not re.findall(r"oee_\w{8}_[\w-]{43}", again.text)
    assert ApiKey.objects.count() == 1
    assert f'value="{prefix}"' not in operator.get(add).text


def test_the_admin_revokes_keys(operator: Client, client: Client) -> None:
    owner = User.objects.get(username="operator")
    key = keys.create(owner.pk)
    pk = ApiKey.objects.get().pk

    chosen = {"action": "revoke", "_selected_action": [pk]}
    said = [operator.post("/admin/orders/apikey/", chosen, follow=True).text for _ in range(2)]

    problem(listed(client, key), 401)
    assert f"Revoked: {stored()['prefix']}." in said[0]
    assert "Revoked: none. 1 had been revoked before." in said[1]


def test_the_admin_changes_the_label_of_a_key_only(operator: Client) -> None:
    owner = User.objects.get(username="operator")
    keys.create(owner.pk)
    before = stored()

    path = f"/admin/orders/apikey/{before['id']}"
    changes = {"label": "new", "owner": 0, "prefix": "aaaaaaaa", "digest": "a" * 64}
    assert operator.post(f"{path}/change/", changes).status_code == 302
    assert operator.post(f"{path}/delete/", {"post": "yes"}).status_code == 403

    assert stored() == {**before, "label": "new"}


def test_whoever_may_make_keys_makes_his_own_only(
    client: Client, make_user: Callable[..., User], alice: User
) -> None:
    keymaker = make_user("keymaker", is_staff=True)
    rights = Permission.objects.filter(codename__in=["add_apikey", "view_apikey"])
    keymaker.user_permissions.set(rights)
    desk = Client()
    desk.force_login(keymaker)

    def make(owner: User) -> list[str]:
        page = desk.post("/admin/orders/apikey/add/", {"owner": owner.pk, "label": "bot"})
        return re.findall(r"oee_\w{8}_[\w-]{43}", page.text)

    assert make(alice) == []
    assert len(make(keymaker)) == 1
    keymaker.user_permissions.add(Permission.objects.get(codename="change_user"))
    assert len(make(alice)) == 1
