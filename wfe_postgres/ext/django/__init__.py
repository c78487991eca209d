"""Workflows in a Django project: an app for INSTALLED_APPS, configured by the setting `WFE`.

`using()` starts workflows in the transaction of a view, `host()` in one of its own, and `manage.py wfe_work` runs them.
"""

from wfe_postgres.ext.django.current import host, provider, using

__all__ = ["host", "provider", "using"]
