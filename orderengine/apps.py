from django.apps import AppConfig


class OrderEngineConfig(AppConfig):
    """Wiring; an app so that `manage.py up` and `manage.py demo` are found."""

    name = "orderengine"
