"""A test for which Django's runner makes no test database."""

from django.test import SimpleTestCase

from wfe_postgres.ext.django.testing import WorkflowTestMixin


class InSimpleTestCase(WorkflowTestMixin, SimpleTestCase):
    """Names no database."""

    def test_nothing(self) -> None:
        """The mixin would empty the store after it."""
