"""A Django application with a form: its CSRF check compares Origin with the host that it takes for its own. Tells its port as
JSON. Environment: FORWARDED ("true": X-Forwarded-Host names that host)."""
import json
import os
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path

settings.configure(
    SECRET_KEY="made-up-and-far-too-well-known",
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    USE_X_FORWARDED_HOST=os.environ.get("FORWARDED") == "true",
)
django.setup()


def form(request):
    if request.method == "POST":
        return HttpResponse("taken: " + request.POST["item"])
    field = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return HttpResponse(f'<form method="post">{field}<input name="item" value="tea"><button>order</button></form>')


urlpatterns = [path("form", form)]

with make_server("127.0.0.1", 0, get_wsgi_application()) as server:
    print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
    server.serve_forever()
