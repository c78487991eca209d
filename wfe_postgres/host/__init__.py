"""Runs workflows: definitions, the host, and what its steps are given and return."""

from wfe_postgres.host.activities import PendingActivity
from wfe_postgres.host.builder import WorkflowBuilder
from wfe_postgres.host.client import WorkflowClient
from wfe_postgres.host.context import StepContext
from wfe_postgres.host.definitions import StepBody, WorkflowDefinition
from wfe_postgres.host.errors import (
    ActivityFailedError,
    Compensate,
    ErrorBehavior,
    LostTryError,
    Retry,
    SagaFailedError,
    SubWorkflowTerminatedError,
    Suspend,
    Terminate,
    WaitTimeoutError,
)
from wfe_postgres.host.host import WorkflowHost
from wfe_postgres.host.results import ExecutionResult

__all__ = [
    "ActivityFailedError",
    "Compensate",
    "ErrorBehavior",
    "ExecutionResult",
    "LostTryError",
    "PendingActivity",
    "Retry",
    "SagaFailedError",
    "StepBody",
    "StepContext",
    "SubWorkflowTerminatedError",
    "Suspend",
    "Terminate",
    "WaitTimeoutError",
    "WorkflowBuilder",
    "WorkflowClient",
    "WorkflowDefinition",
    "WorkflowHost",
]
