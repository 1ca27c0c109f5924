from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from tests.api.http import PASSWORD


@pytest.fixture
def client() -> Client:
    """Treated as a client of its own: no exemption from CSRF, and no exception but an answer."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


@pytest.fixture
def make_user(transactional_db: None, settings: Settings) -> Callable[[str], User]:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return lambda name: User.objects.create_user(name, password=PASSWORD)


@pytest.fixture
def alice(make_user: Callable[[str], User]) -> User:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Callable[[str], User]) -> User:
    return make_user("bob")


@pytest.fixture
def auth_required(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As settings have it in production; test_settings.py checks that they do."""
    settings.API_AUTH_REQUIRED = True
    monkeypatch.setattr(APIView, "permission_classes", [IsAuthenticated])
