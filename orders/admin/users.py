"""Users: one who has placed orders is made inactive, not deleted."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest

from orders.admin.odd_lookups import OddLookups
from orders.models import Order

admin.site.unregister(User)


@admin.register(User)
class OwnerAdmin(OddLookups, UserAdmin):  # type: ignore[type-arg]
    """Django would read all of a user's orders to say that he cannot be deleted."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and Order.objects.filter(owner=obj).exists():
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """One at a time, for each is looked at."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions
