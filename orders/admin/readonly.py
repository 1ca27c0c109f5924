"""Rows that the engine writes: operators read them."""

from typing import Any

from django.http import HttpRequest

from orders.admin.odd_lookups import OddLookups


class ReadOnlyAdmin(OddLookups):
    class Media:
        css = {"all": ["orders/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
