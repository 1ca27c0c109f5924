"""The order desk: one page, which talks to the public API and WebSocket as any client does."""

from typing import Any

from django.conf import settings
from django.contrib.auth.views import LoginView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from dex.tokens import TOKENS
from orders.pages import VENUE_CHOICES
from orders.signing_in import CountedTries


@never_cache
@require_safe
def page(request: HttpRequest, order_id: str = "") -> HttpResponse:
    """The desk; with an order's id, that order alone."""
    if settings.API_AUTH_REQUIRED and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    return render(request, "desk/page.html", {"setup": setup(request, order_id)})


class SignIn(LoginView):
    form_class = CountedTries
    template_name = "desk/login.html"


def setup(request: HttpRequest, order_id: str) -> dict[str, Any]:
    """What the page's script starts with."""
    return {
        "orderId": order_id,
        "tokens": {token.symbol: token.decimals for token in TOKENS},
        "venues": VENUE_CHOICES,
        "user": request.user.get_username(),
        "isStaff": bool(getattr(request.user, "is_staff", False)),
        "flower": settings.FLOWER_URL if settings.DEVELOPMENT else "",
        "csrfToken": get_token(request),
    }
