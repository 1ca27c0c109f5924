"""How a REST request signs in: DRF's hook to the one check of keys."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from orders import keys
from orders.keys import Caller


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """None without an Authorization header: then a session may do. Raises Problem."""
        authorization = request.headers.get("Authorization")
        return None if authorization is None else (keys.caller_of(authorization), None)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
