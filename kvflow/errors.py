"""One tree of errors, so that ``except KvflowError`` catches all that kvflow raises on purpose.

    KvflowError
    ├── InvalidArgument             the caller gave what nobody could take
    │   ├── InvalidRunId
    │   ├── InvalidPrefix
    │   ├── UnknownScheme
    │   └── InvalidPayload
    ├── Conflict                    somebody else was first; nothing was written
    ├── TooLarge                    over the store's limit; nothing was written
    ├── StoreUnavailable            the server did not answer in time
    ├── MissingDriver               an extra is not installed
    ├── SchemaTooNew                the tables were made by a newer kvflow
    ├── Corrupt                     stored bytes that do not decode; left as they are
    ├── NotSupported                this store cannot do that
    ├── UnknownWorkflow             no workflow of that name is registered here
    ├── DuplicateWorkflow           two workflows of one name
    ├── WrongColour                 ``async def`` given to the sync runtime, or the reverse
    ├── RunNotFound                 no run has that id
    ├── RunExists                   that id belongs to another trigger
    ├── RunNotFailed                only a failed run can be retried
    ├── StepFailed                  a step's recorded failure, raised in the body
    ├── ChildFailed                 a child's recorded failure, raised in the body
    ├── DuplicateStep               one step id used twice in a pass
    ├── StepReused                  one step id recorded as another kind
    └── NestedStep                  a call on ctx from inside a step

Each message says what was given and what would do. Each class has a ``code``, its name in
kebab-case, for logs and for callers that do not speak Python. What is expected to happen (a lease
that somebody else holds, a run that is not there) is a return value, never an error.
"""

import re
from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from kvflow.records import RunError

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that nobody wrote so: of text that is none, and of what is nested too deep, too."""


class KvflowError(Exception):
    """The root of everything that kvflow raises on purpose."""

    code: ClassVar[str] = "kvflow-error"

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()


class InvalidArgument(KvflowError):
    """The caller gave what nobody could take."""


class InvalidRunId(InvalidArgument):
    """A run id is 1 to 200 characters without control characters or surrogates."""


class InvalidPrefix(InvalidArgument):
    """A prefix names keys or tables, so it is a short lower-case identifier."""


class UnknownScheme(InvalidArgument):
    """No store is registered for the scheme of this URL."""


class InvalidPayload(InvalidArgument):
    """The payload does not fit the annotation of the workflow's body."""


class Conflict(KvflowError):
    """Somebody else wrote, holds or deleted this run first; nothing was written."""


class TooLarge(KvflowError):
    """A head or a record is over the store's limit; nothing was written."""


class StoreUnavailable(KvflowError):
    """The store did not answer in time; whether it did what was asked is not known."""


class MissingDriver(KvflowError):
    """The driver of this store is not installed; the message names the extra."""


class SchemaTooNew(KvflowError):
    """The stored schema was made by a newer kvflow than this one."""


class Corrupt(KvflowError):
    """Stored bytes that do not decode. They are left as they are."""


class NotSupported(KvflowError):
    """This store, server or platform cannot do what was asked."""


class UnknownWorkflow(KvflowError):
    """No workflow of that name is registered here."""


class DuplicateWorkflow(KvflowError):
    """Two different workflows of one name."""


class WrongColour(KvflowError):
    """An ``async def`` body given to the sync runtime, or a ``def`` body to the async one."""


class RunNotFound(KvflowError):
    """No run has this id."""


class RunExists(KvflowError):
    """This run id belongs to a run of another workflow or payload."""


class RunNotFailed(KvflowError):
    """Only a failed run can be retried."""


class StepFailed(KvflowError):
    """A step failed for good; ``error`` has its type, message and traceback as they were recorded."""

    error: "RunError"

    def __init__(self, message: str, error: "RunError | None" = None) -> None:
        super().__init__(message, error)
        if error is not None:
            self.error = error

    def __str__(self) -> str:
        return str(self.args[0])


class ChildFailed(KvflowError):
    """A child run failed; ``error`` has its type, message and traceback as they were recorded."""

    error: "RunError"

    def __init__(self, message: str, error: "RunError | None" = None) -> None:
        super().__init__(message, error)
        if error is not None:
            self.error = error

    def __str__(self) -> str:
        return str(self.args[0])


class DuplicateStep(KvflowError):
    """One step id was used twice in one pass of the body."""


class StepReused(KvflowError):
    """A step id is recorded as something of another kind."""


class NestedStep(KvflowError):
    """A call on ctx from inside a step."""
