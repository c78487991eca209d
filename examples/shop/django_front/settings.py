"""Django settings. The shop and the store share the database in WFE_DATABASE_URL."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key
from psycopg.conninfo import conninfo_to_dict

_parameters = conninfo_to_dict(os.environ["WFE_DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parameters.pop("dbname"),
        "OPTIONS": _parameters,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}

SECRET_KEY = os.environ.get("SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["examples.shop.django_front", "wfe_postgres.ext.django"]
WFE = {"DEFINITIONS": ["examples.shop.django_front.workflow.ORDER"], "LEASE": 5, "POLL_INTERVAL": 0.2}
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
ROOT_URLCONF = "examples.shop.django_front.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.jinja2.Jinja2", "DIRS": [Path(__file__).parents[1] / "templates"]}]

TIME_ZONE = "UTC"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
