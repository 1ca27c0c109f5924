"""API keys: made, shown once, revoked."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from orders import keys
from orders.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["prefix", "owner", "label", "created_at", "last_used_at", "revoked_at"]
    list_select_related = ["owner"]
    search_fields = ["=prefix", "=owner__username", "label"]
    ordering = ["-created_at"]
    actions = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["owner", "label"] if obj is None else self.list_display

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else [name for name in self.list_display if name != "label"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a revoked key stays, so that its prefix in a note still leads somewhere

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.new = keys.new_key()
            obj.prefix, obj.digest = obj.new.prefix, obj.new.digest
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The key itself, on this one page: a message would pass through a cookie or a row."""
        page = "admin/orders/apikey/created.html"
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key {obj.prefix}",
            "key": obj,
            "text": obj.new.text,
        }
        return TemplateResponse(request, page, context)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        for key in chosen:
            keys.revoke(key.prefix)
            self.log_change(request, key, "revoked")
