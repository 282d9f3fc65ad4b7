"""What a store's author needs to show that a store keeps the contract.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open(self) -> Open:
            return partial(MyStore, url)

``open`` gives a new handle to the same data, empty at the start of each test, and is picklable, so that
tests can open it in other processes; where it cannot be pickled, the tests that need processes are
skipped. Each capability is a mixin of its own: ``PrimitivesContract`` is all that an object has to keep
to be a whole store under ``Derived``.

The methods are plain: they take ``open``, assert, and need no pytest.
"""

from kvflow.testing.bad_input import BadInputContract
from kvflow.testing.batches import SaveManyContract
from kvflow.testing.claims import ClaimContract
from kvflow.testing.clock import FakeClock
from kvflow.testing.faults import FaultyStore, Killed
from kvflow.testing.fences import FenceContract
from kvflow.testing.leases import LeaseContract
from kvflow.testing.listing import ListContract, NextWakeContract
from kvflow.testing.posts import PostContract
from kvflow.testing.primitives import PrimitivesContract
from kvflow.testing.processes import ProcessesContract
from kvflow.testing.runs import Open, OpenPrimitives
from kvflow.testing.threads import ThreadsContract

__all__ = [
    "BadInputContract",
    "ClaimContract",
    "FakeClock",
    "FaultyStore",
    "FenceContract",
    "Killed",
    "LeaseContract",
    "ListContract",
    "NextWakeContract",
    "OneProcessContract",
    "Open",
    "OpenPrimitives",
    "PostContract",
    "PrimitivesContract",
    "ProcessesContract",
    "SaveManyContract",
    "StoreContract",
    "ThreadsContract",
]


class OneProcessContract(
    PrimitivesContract,
    LeaseContract,
    FenceContract,
    ClaimContract,
    PostContract,
    SaveManyContract,
    ListContract,
    NextWakeContract,
    BadInputContract,
    ThreadsContract,
):
    """Everything but other processes, for a store that lives in one."""


class StoreContract(OneProcessContract, ProcessesContract):
    """The whole contract."""
