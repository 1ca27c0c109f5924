"""DRF views whose methods are coroutines: only what waits for a server goes to a thread."""

from collections.abc import Callable
from typing import Any

from django.db import close_old_connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from orders import access
from orders.threads import in_thread


class CoroutineView(APIView):
    """An APIView with `async def post(...)`; everything else about it is DRF's."""

    # Whether its `post` reads nothing of a request but data, headers and user (repeated.py).
    repeatable = False

    async def dispatch(  # type: ignore[override]  # as_view() answers with what is to be awaited
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """APIView.dispatch, step by step, with the two that may wait awaited."""
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        try:
            await self.admit()
            response = await self.method()(self.request, *args, **kwargs)
        except Exception as error:  # becomes a problem
            response = self.handle_exception(error)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        return self.response

    async def admit(self) -> None:
        """Raises where this caller may not ask this."""
        if access.is_known(self.request):
            self.initial(self.request, *self.args, **self.kwargs)
        else:
            await in_thread(self.admit_in_thread)

    def admit_in_thread(self) -> None:
        try:
            self.initial(self.request, *self.args, **self.kwargs)
        finally:
            close_old_connections()  # Django reads sessions through its own

    def method(self) -> Callable[..., Any]:
        name = str(self.request.method).lower()
        refuse: Callable[..., Any] = self.http_method_not_allowed
        return getattr(self, name, refuse) if name in self.http_method_names else refuse

    async def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return super().options(request, *args, **kwargs)
