"""API keys: made, shown once, revoked."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from orders import keys
from orders.admin.odd_lookups import OddLookups
from orders.models import ApiKey


class NewKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """Has the new key's prefix already: sent again, by a reload, it makes no second key."""

    new_prefix = forms.RegexField(
        r"\A[a-z0-9]{8}\Z", required=False, initial=keys.new_prefix, widget=forms.HiddenInput
    )

    def clean(self) -> None:
        super().clean()
        prefix = self.cleaned_data.get("new_prefix")
        if prefix and ApiKey.objects.filter(prefix=prefix).exists():
            raise forms.ValidationError(
                f"This form has made the key {prefix}. Revoke it if its text is lost."
            )


@admin.register(ApiKey)
class ApiKeyAdmin(OddLookups):
    list_display = ["prefix", "owner", "label", "created_at", "last_used_at", "revoked_at"]
    list_select_related = ["owner"]
    search_fields = ["=prefix", "=owner__username", "label"]
    ordering = ["-created_at"]
    actions = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["owner", "label", "new_prefix"] if obj is None else self.list_display

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = NewKeyForm
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A key is its owner: for others makes one only who may set their passwords as well."""
        if not request.user.has_perm("auth.change_user"):
            kwargs["queryset"] = User.objects.filter(username=request.user.get_username())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else [name for name in self.list_display if name != "label"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a revoked key stays, so that its prefix in a note still leads somewhere

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.new = keys.new_key(form.cleaned_data["new_prefix"])
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
        good = list(chosen.filter(revoked_at=None))
        for key in good:
            keys.revoke(key.prefix)
            self.log_change(request, key, "revoked")
        sentence = f"Revoked: {', '.join(key.prefix for key in good) or 'none'}."
        if before := chosen.count() - len(good):
            sentence += f" {before} had been revoked before."
        self.message_user(request, sentence, messages.SUCCESS if good else messages.WARNING)
