"""HTTP on uvicorn, behind the proxy of `manage.py up --fast` (proxy.py); Daphne has the WebSockets.

Whoever reaches this server is the proxy, which names the client: nothing else may reach it.
"""

from orderengine import http
from orderengine.garbage import keep_what_is_loaded

application = http.application
keep_what_is_loaded()
