from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from orders import problems

urlpatterns = [
    path("", include("orders.urls")),
    path("", include("desk.urls")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    re_path("", problems.not_found),
]
handler400 = problems.bad_request
handler403 = problems.forbidden
handler404 = problems.not_found
handler500 = problems.server_error
