"""The sign-in form of people, at the desk and in the admin: how often a password may be tried.

Where requests are limited, tries are as well: ten a minute of one user name from one address, and
thirty of the address. Each costs as much as a password's hash, on the engine's own processors.
"""

from typing import Any

import structlog
from django import forms
from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm

from orders import limits
from orders.keys import digest_of
from orders.problems import Problem

log = structlog.get_logger(__name__)

OF_A_NAME, OF_AN_ADDRESS = (10, 60), (30, 60)  # tries, in so many seconds


class CountedTries(AuthenticationForm):
    def clean(self) -> dict[str, Any]:
        address = self.request.META.get("REMOTE_ADDR") if self.request else None
        bucket = f"sign-in.{address}"
        try:
            if settings.API_RATE_LIMIT is not None:
                limits.spend(bucket, OF_AN_ADDRESS)
                name = self.cleaned_data.get("username", "")  # as it is looked for
                limits.spend(f"{bucket}.{digest_of(name)}", OF_A_NAME)
            return super().clean()
        except Problem as too_often:
            seconds = too_often.headers["Retry-After"]
            sentence = f"Too many tries. The next may be made in {seconds} s."
            raise forms.ValidationError(sentence, code="too_often") from None
        except forms.ValidationError:
            # Not the name: people type passwords there.
            log.warning("sign_in.failed", address=address)
            raise


class AdminSignIn(CountedTries, AdminAuthenticationForm):
    """Of staff only."""
