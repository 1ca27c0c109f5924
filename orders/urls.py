from django.urls import URLResolver, path
from django.urls.resolvers import RoutePattern

from orders import health, views

urlpatterns = [
    path("api/orders/execute", views.ExecuteView.as_view()),
    path("api/orders/batch", views.BatchView.as_view()),
    path("api/orders/stats", views.StatsView.as_view()),
    path("api/orders/activity", views.ActivityView.as_view()),
    path("api/orders", views.OrderListView.as_view()),
    path("api/orders/<str:order_id>", views.OrderView.as_view()),
    path("api/orders/<str:order_id>/events", views.EventsView.as_view()),
    path("api/orders/<str:order_id>/cancel", views.CancelView.as_view()),
    path("api/quotes", views.QuotesView.as_view()),
    path("api/tickets", views.TicketsView.as_view()),
    path("api/asyncapi.yaml", views.AsyncAPIView.as_view()),
    path("metrics", views.MetricsView.as_view()),
    path("health", views.HealthView.as_view(checks=health.HEALTH)),
    path("health/ready", views.HealthView.as_view(checks=health.READINESS)),
    path("health/live", views.HealthView.as_view()),
    # `include` would load it now; this, when none of the above is what is asked for.
    URLResolver(RoutePattern("api/"), "orders.openapi_urls"),
]
