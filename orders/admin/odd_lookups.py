"""Addresses of the admin's lists whose filters mean nothing."""

from typing import Any

import structlog
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import DataError
from django.http import HttpRequest

log = structlog.get_logger(__name__)


class OddLookups(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """What means nothing to PostgreSQL is answered as what means nothing to Django."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        if any("\0" in value for value in request.GET.values()):
            raise IncorrectLookupParameters("a NUL character")
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError, LookupError, OverflowError) as error:
            log.warning("admin.odd_lookup", path=request.path, error=repr(error))
            raise IncorrectLookupParameters(error) from error
