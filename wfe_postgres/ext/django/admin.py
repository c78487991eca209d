"""A read-only admin of the workflows, and an action that resumes. Nothing of their data is shown."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.timezone import template_localtime

from wfe_postgres.contract.errors import CorruptRowError, WorkflowNotFoundError
from wfe_postgres.contract.models import ExecutionPointer
from wfe_postgres.ext.django import conf, current
from wfe_postgres.ext.django.models import Workflow
from wfe_postgres.host.tree import Elided, Forest, Node, shown

_MOST = 10_000
"""How many workflows are counted for the list's pages."""
_ERRORS = 50


class _Definitions(admin.SimpleListFilter):
    """The definitions of the host: to find those of the store, all of it would have to be read."""

    title, parameter_name = "definition", "definition"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(id, id) for id in sorted({id for id, _ in current.host().definitions})]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value() is None else queryset.filter(definition_id=self.value())


class _FirstPages(Paginator):
    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[:_MOST].count())


class _WorkflowAdmin(admin.ModelAdmin):
    list_display = ("id", "definition", "status", "reference", "create_time", "due")
    list_filter = ("status", _Definitions)
    list_per_page = 50
    search_fields = ("id__exact", "name__exact", "reference__exact")
    search_help_text = "An id, a name, or a reference, in full"
    ordering = ("-create_time", "-id")
    paginator = _FirstPages
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fields = (
        "id",
        "definition",
        "status",
        "reference",
        "name",
        "description",
        "root_workflow_id",
        "create_time",
        "complete_time",
        "due",
    )
    actions = ("resume",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_resume_permission(self, request: Any) -> bool:
        return bool(request.user.has_perm("wfe.resume_workflow"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.fields

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(id__gte="")  # as the index of create_time has it

    @admin.display(ordering="definition_id")
    def definition(self, workflow: Any) -> str:
        return f"{workflow.definition_id} v{workflow.version}"

    @admin.display(description="next due")
    def due(self, workflow: Any) -> str:
        return self.get_empty_value_display() if workflow.next_due is None else _at(workflow.next_due)

    @admin.action(description="Resume selected workflows", permissions=["resume"])
    def resume(self, request: HttpRequest, queryset: Any) -> None:
        resumed, others = 0, 0
        for workflow in queryset:
            with transaction.atomic(using=conf.read().database):
                try:
                    done = current.using().resume_workflow(workflow.id)
                except WorkflowNotFoundError:
                    done = False
                if done:
                    self.log_change(request, workflow, "Resumed.")
            resumed, others = resumed + done, others + (not done)
        if resumed:
            self.message_user(request, f"Resumed: {resumed}.", messages.SUCCESS)
        if others:
            self.message_user(request, f"Not suspended, and left as they are: {others}.", messages.WARNING)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        more: dict[str, Any] = {"may_resume": self.has_resume_permission(request)}
        try:
            store = current.joined()
            pointers = store.get_workflow_instance(object_id).execution_pointers
            more |= {"steps": _tree(Forest(pointers).roots)}
            names = {it.id: _name(it) for it in pointers}
            errors = store.get_execution_errors(object_id, limit=_ERRORS)
            more["errors_of_steps"] = [
                (names.get(it.execution_pointer_id, ""), _at(it.error_time), it.message) for it in errors
            ]
        except WorkflowNotFoundError:
            pass  # Django says so
        except CorruptRowError as error:
            self.message_user(request, str(error), messages.ERROR)
        return super().change_view(request, object_id, form_url, more | (extra_context or {}))


def _tree(nodes: list[Node]) -> list[Any]:
    """What the template filter `unordered_list` takes: each text, followed by the list of what is below it."""
    found: list[Any] = []
    for node in shown(nodes):
        if isinstance(node, Elided):
            counts = ", ".join(f"{number} {status.value}" for status, number in node.statuses.items())
            found.append(format_html('<span class="quiet">… {}</span>', counts))
            continue
        found.append(_line(node.pointer))
        if node.below:
            found.append(_tree(node.below))
    return found


def _line(pointer: ExecutionPointer) -> Any:
    parts = [pointer.status.value]
    if pointer.event_name and pointer.end_time is None:
        parts.append(f"for {pointer.event_name} {pointer.event_key}")
    if pointer.sleep_until is not None and pointer.end_time is None:
        parts.append(f"until {_at(pointer.sleep_until)}")
    if pointer.end_time is not None:
        parts.append(_at(pointer.end_time))
    if pointer.retry_count:
        parts.append(f"failed tries: {pointer.retry_count}")
    return format_html('<strong>{}</strong> <span class="quiet">{}</span>', _name(pointer), ", ".join(parts))


def _name(pointer: ExecutionPointer) -> str:
    return pointer.step_name or f"step {pointer.step_id}"


def _at(time: datetime) -> str:
    """In Django's time zone, with the seconds, which most formats of Django leave out: retries can be that close."""
    return f"{template_localtime(time):%Y-%m-%d %H:%M:%S}"


admin.site.register(Workflow, _WorkflowAdmin)
