"""Settings of a project for the tests; what a test varies is in environment variables, as JSON."""

import json
import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict

_address = conninfo_to_dict(os.environ["SHOP_URL"])
_vary = json.loads(os.environ.get("SHOP_VARY", "{}"))

_database: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": _address["dbname"],
    "USER": _address.get("user", ""),
    "PASSWORD": _address.get("password", ""),
    "HOST": _address.get("host", ""),
    "PORT": str(_address.get("port", "")),
}
DATABASES = {"default": _database | _vary.get("database", {})} | {
    alias: _database | more for alias, more in _vary.get("databases", {}).items()
}
_definitions = [f"tests.ext.django.shop.workflows.{name}" for name in ("ORDER", "OUTSIDE")]
WFE = {"DEFINITIONS": _definitions, "POLL_INTERVAL": 0.05} | _vary.get("wfe", {})
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tests.ext.django.shop",
    "wfe_postgres.ext.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.ext.django.shop.urls"
SECRET_KEY = "for the tests"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
USE_TZ = True
DEBUG = bool(_vary.get("debug"))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MIGRATION_MODULES = _vary.get("migration_modules", {})
