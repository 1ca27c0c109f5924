from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def flower_url() -> str:
    """Where Flower is, in development; empty where that is not known."""
    return settings.FLOWER_URL if settings.DEVELOPMENT else ""
