"""What operators see. Orders are written by the engine only; here they are looked at, withdrawn
and hinted, trading is halted, and API keys are made and revoked.
"""

from django.contrib import admin

from orders.admin.halts import HaltAdmin
from orders.admin.keys import ApiKeyAdmin
from orders.admin.orders import OrderAdmin
from orders.admin.users import OwnerAdmin
from orders.signing_in import AdminSignIn

__all__ = ["ApiKeyAdmin", "HaltAdmin", "OrderAdmin", "OwnerAdmin"]

admin.site.login_form = AdminSignIn
admin.site.site_header = admin.site.site_title = "Order Execution Engine"
admin.site.index_title = "Operations"
admin.site.index_template = "admin/orders/index.html"
admin.site.enable_nav_sidebar = False  # the list needs the width
