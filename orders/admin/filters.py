"""The filters of the order list that are not a column's own."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from orders import pages
from orders.models import Order

PAST = {
    "hour": ("Past hour", timedelta(hours=1)),
    "day": ("Past 24 hours", timedelta(days=1)),
    "week": ("Past 7 days", timedelta(days=7)),
    "month": ("Past 30 days", timedelta(days=30)),
}


class VenueFilter(admin.SimpleListFilter):
    title = "venue"
    parameter_name = "venue__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in pages.VENUE_CHOICES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        named = pages.Filter(venue=self.value()).named()
        return queryset.filter(venue__in=named["venue"]) if named else queryset


class CreatedFilter(admin.SimpleListFilter):
    """A range of times is a range of ids."""

    title = "time"
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in PAST.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        if self.value() not in PAST:
            return queryset
        _, length = PAST[str(self.value())]
        return queryset.filter(id__gte=pages.stamp(timezone.now() - length, 0))
