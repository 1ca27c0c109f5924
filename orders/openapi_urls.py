"""The OpenAPI document and its page. Loaded when they are asked for, with the 4 MiB they take."""

from django.urls import path

from orders import openapi

urlpatterns = [
    path("schema", openapi.SchemaView.as_view(), name="schema"),
    path("docs", openapi.DocsView.as_view()),
]
