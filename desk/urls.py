from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from desk import views

urlpatterns = [
    path("", views.page, name="desk"),
    path("orders/<str:order_id>", views.page, name="desk-order"),
    path("login", LoginView.as_view(template_name="desk/login.html"), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
]
