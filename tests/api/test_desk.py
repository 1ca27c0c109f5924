"""The pages of the order desk; tests/browser has what they do in a browser."""

import json
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

pytestmark = pytest.mark.usefixtures("no_orders")
SETUP = re.compile(r'<script id="setup" type="application/json">(.*?)</script>')


def setup(page: str) -> dict[str, object]:
    found = SETUP.search(page)
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.mark.parametrize(
    ("path", "order_id"),
    [("/", ""), ("/orders/ord_1700000000000_abcdefghij", "ord_1700000000000_abcdefghij")],
)
def test_a_page_says_what_its_script_needs(client: Client, path: str, order_id: str) -> None:
    page = client.get(path)

    assert page.status_code == 200
    known = setup(page.content.decode())
    assert known["orderId"] == order_id
    assert known["tokens"] == {"SOL": 9, "USDC": 6, "USDT": 6, "RAY": 6, "JUP": 6, "BONK": 5}
    assert known["user"] == ""


def test_a_page_has_nothing_inline_and_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/").content.decode()

    scripts = re.findall(r"<script(?! id=\"setup\" type=\"application/json\")([^>]*)>", page)
    assert scripts
    assert all(" src=" in script for script in scripts)
    assert re.findall(r"(?:src|href)=\"(?!/)", page) == []
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)


def test_an_order_id_is_text_on_the_page(client: Client) -> None:
    page = client.get("/orders/%3Cscript%3Ealert(1)")

    assert "<script>alert" not in page.content.decode()


def test_where_a_sign_in_is_required_the_page_asks_for_it(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.API_AUTH_REQUIRED = True
    answer = client.get("/?status=failed")
    assert (answer.status_code, answer["Location"]) == (302, "/login?next=/%3Fstatus%3Dfailed")

    client.force_login(alice)
    assert setup(client.get("/").content.decode())["user"] == "alice"


def test_a_wrong_password_is_told(alice: User) -> None:
    page = Client().post("/login", {"username": "alice", "password": "wrong"})

    assert "Please enter a correct username and password" in page.content.decode()


def test_signing_in_leads_to_no_other_site(alice: User) -> None:
    alice.set_password("correct horse battery")
    alice.save()
    given = {
        "username": "alice",
        "password": "correct horse battery",
        "next": "https://evil.example",
    }

    assert Client().post("/login", given)["Location"] == "/"
