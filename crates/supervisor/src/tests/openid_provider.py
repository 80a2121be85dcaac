"""A real OpenID provider (django-oauth-toolkit) for the tests: FOLDER REDIRECT_URL [public]. Prints its issuer when it listens.

People with the password `right`: ada, and some who are nobody here. One client, `stead`, with the secret `of-the-client`
unless it is to be a public one.
"""

import os
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings

folder, redirect_url = sys.argv[1:3]
is_public = sys.argv[3:] == ["public"]
key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LOGIN_PAGE = "<form method=post>{% csrf_token %}</form>"
settings.configure(
    SECRET_KEY=os.urandom(32).hex(),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "provider.db")}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE})],
                "context_processors": ["django.template.context_processors.request"],
            },
        }
    ],
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": key.decode(),
        "PKCE_REQUIRED": True,
        "SCOPES": {"openid": "who you are", "profile": "how you are called"},
        "OAUTH2_VALIDATOR_CLASS": "__main__.Validator",
        "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    oidc_claim_scope = None

    def get_additional_claims(self, request):
        return {"preferred_username": request.user.username, "groups": ["farm"]}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("accounts/login/", LoginView.as_view()),
]

call_command("migrate", verbosity=0)
ada, *_ = [User.objects.create_user(name, password="right") for name in ["ada", "root", "not a name"]]
application = get_application_model()
application.objects.create(
    name="stead",
    user=ada,
    client_id="stead",
    client_secret="" if is_public else "of-the-client",
    client_type=application.CLIENT_PUBLIC if is_public else application.CLIENT_CONFIDENTIAL,
    authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
    redirect_uris=redirect_url,
    algorithm=application.RS256_ALGORITHM,
    skip_authorization=True,
)
server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
print(f"http://127.0.0.1:{server.server_port}/o", flush=True)
server.serve_forever()
