"""Durable workflows on the storage that you already run."""

from kvflow.context import AsyncContext, Context
from kvflow.errors import (
    ChildFailed,
    Conflict,
    Corrupt,
    DuplicateStep,
    DuplicateWorkflow,
    InvalidArgument,
    InvalidPayload,
    InvalidPrefix,
    InvalidRunId,
    KvflowError,
    MissingDriver,
    NestedStep,
    NotSupported,
    RunExists,
    RunNotFailed,
    RunNotFound,
    SchemaTooNew,
    StepFailed,
    StepReused,
    StoreUnavailable,
    TooLarge,
    UnknownScheme,
    UnknownWorkflow,
    WrongColour,
)
from kvflow.info import Happened, Pending, RunInfo, Tick
from kvflow.records import RunError, UndoFailure
from kvflow.retry import Retry
from kvflow.runtime import AsyncRuntime, Runtime
from kvflow.stats import Stats
from kvflow.store import Derived, Lease, Primitives, Status, Store, StoredRun
from kvflow.times import cron
from kvflow.worker import AsyncWorker, Worker
from kvflow.workflow import Workflow, workflow

__all__ = [
    "AsyncContext",
    "AsyncRuntime",
    "AsyncWorker",
    "ChildFailed",
    "Conflict",
    "Context",
    "Corrupt",
    "Derived",
    "DuplicateStep",
    "DuplicateWorkflow",
    "Happened",
    "InvalidArgument",
    "InvalidPayload",
    "InvalidPrefix",
    "InvalidRunId",
    "KvflowError",
    "Lease",
    "MissingDriver",
    "NestedStep",
    "NotSupported",
    "Pending",
    "Primitives",
    "Retry",
    "RunError",
    "RunExists",
    "RunInfo",
    "RunNotFailed",
    "RunNotFound",
    "Runtime",
    "SchemaTooNew",
    "Stats",
    "Status",
    "StepFailed",
    "StepReused",
    "Store",
    "StoreUnavailable",
    "StoredRun",
    "Tick",
    "TooLarge",
    "UndoFailure",
    "UnknownScheme",
    "UnknownWorkflow",
    "Worker",
    "Workflow",
    "WrongColour",
    "cron",
    "workflow",
]
