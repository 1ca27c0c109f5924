"""Rows that the engine writes: operators read them."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import DataError
from django.http import HttpRequest


class OddLookups(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """An address whose filter means nothing to PostgreSQL is answered as Django's others."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        if any("\0" in value for value in request.GET.values()):
            raise IncorrectLookupParameters("a NUL character")
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError, LookupError, OverflowError) as error:
            raise IncorrectLookupParameters(error) from error


class ReadOnlyAdmin(OddLookups):
    class Media:
        css = {"all": ["orders/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
