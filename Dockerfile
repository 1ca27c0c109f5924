# Both stages name the Debian release: a virtualenv works only on the Python it was made with.
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt constraints.txt /build/
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python --no-cache-dir install --only-binary :all: \
        -r /build/requirements.txt

FROM python:3.11-slim-bookworm
# DEBUG is off unless someone turns it on, so that a forgotten variable is refused, not guessed.
ENV DEBUG=false \
    PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin orders
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY lean.py ./
COPY orderengine orderengine
COPY desk desk
COPY orders orders
COPY dex dex
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
EXPOSE 3000

# For the web server. It is asked by a name that ALLOWED_HOSTS has, and never through HTTP_PROXY.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as http; \
host = os.environ.get('ALLOWED_HOSTS', '').split(',')[0].strip(' .') or 'localhost'; \
live = http.Request('http://127.0.0.1:3000/health/live', headers={'Host': host}); \
http.build_opener(http.ProxyHandler({})).open(live, timeout=4)"]

# Whatever is started, a wrong setting is told in one line, not in a traceback.
ENTRYPOINT ["sh", "-c", "python manage.py check >/dev/null && exec \"$@\"", "sh"]
CMD ["python", "-m", "lean", "daphne", \
     "--endpoint", "tcp:port=3000:interface=0.0.0.0:backlog=1024", "orderengine.asgi:application"]
