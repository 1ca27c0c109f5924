"""HTTP on granian, behind the proxy of `manage.py up --fast` (proxy.py); Daphne has the WebSockets.

Whoever reaches this server is the proxy, which names the client: nothing else may reach it.
"""

from granian.utils.proxies import wrap_asgi_with_proxy_headers

from orderengine import http
from orderengine.garbage import keep_what_is_loaded

application = wrap_asgi_with_proxy_headers(http.application, trusted_hosts="*")
keep_what_is_loaded()
