"""The admin, in a process that Django was set up in: who sees what, and what resumes."""

from tests.ext.django.kit import manage, python

SET_UP = """
import logging
from django.contrib.auth.models import Permission, User
from django.test import Client
from wfe_postgres.ext.django import current, host, provider
from wfe_postgres.testing import ManualClock

logging.disable()


def client(name, *permissions):
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


id = host().start_workflow("order", {"fails": True, "secret": "classified"}, reference="<b>R-1")
own = current.workflows()
current.make_host(own.options, own.provider, own.provider, clock=ManualClock()).run_until_idle(advance=True)
assert provider().get_workflow_instance(id).status == "Suspended"
LIST, PAGE = "/admin/wfe/workflow/", f"/admin/wfe/workflow/{id}/change/"
RESUME = {"action": "resume", "_selected_action": id}
"""


def run(url: str, program: str) -> None:
    """Run the program on a project with a Suspended workflow."""
    manage(url, "migrate", "--verbosity=0")
    python(url, SET_UP + program)


def test_admin_shows_workflows_their_steps_and_errors_and_no_data(empty_database_url: str) -> None:
    run(
        empty_database_url,
        """
viewer = client("viewer", "view_workflow")
page = viewer.get(LIST).content.decode()
assert id in page and "order v1" in page and "&lt;b&gt;R-1" in page and "Resume" not in page
assert id in viewer.get(LIST, {"q": "<b>R-1", "status__exact": "Suspended", "definition": "order"}).content.decode()
assert id not in viewer.get(LIST, {"q": "R-2"}).content.decode()
page = viewer.get(PAGE).content.decode()
assert "<strong>count</strong>" in page and "Failed" in page and "LookupError: no such article" in page
[error] = page.split("<h2>Errors</h2>")[1].split("</pre>")[:1]
assert "<strong>count</strong>" in error and f"{provider().get_execution_errors(id)[0].error_time:%M:%S}" in error
assert "classified" not in page and 'readonly">None' not in page and "Resume" not in page and 'name="_save"' not in page
assert viewer.get(PAGE.replace(id, "none")).status_code == 302
viewer.post(LIST, RESUME)
assert provider().get_workflow_instance(id).status == "Suspended"
assert viewer.get("/admin/wfe/workflow/add/").status_code == 403
assert viewer.post(PAGE.replace("change", "delete")).status_code == 403
assert client("nobody").get(LIST).status_code == 403
""",
    )


def test_action_resumes_and_writes_it_into_the_log(empty_database_url: str) -> None:
    run(
        empty_database_url,
        """
boss = client("boss", "view_workflow", "resume_workflow")
assert "Resume" in boss.get(PAGE).content.decode()
assert "Resumed: 1." in boss.post(LIST, RESUME, follow=True).content.decode()
assert provider().get_workflow_instance(id).status == "Runnable"
assert "left as they are: 1." in boss.post(LIST, RESUME, follow=True).content.decode()
from django.contrib.admin.models import LogEntry
assert LogEntry.objects.get().object_id == id
""",
    )


def test_workflow_that_cannot_be_read_has_its_page(empty_database_url: str) -> None:
    run(
        empty_database_url,
        """
from django.db import connection
connection.cursor().execute("UPDATE wfc.execution_pointers SET status = 'Odd'")
page = client("viewer", "view_workflow").get(PAGE).content.decode()
assert "cannot be read" in page and "order v1" in page
""",
    )
