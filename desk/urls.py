from django.contrib.auth.views import LogoutView
from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from desk import views

urlpatterns = [
    path("", views.page, name="desk"),
    path("orders/<str:order_id>", views.page, name="desk-order"),
    path("login", views.SignIn.as_view(), name="login"),
    path("favicon.ico", RedirectView.as_view(url=static("desk/icon.svg"))),
    path("logout", LogoutView.as_view(), name="logout"),
]
