"""Any store beside a model of the contract: hypothesis makes the calls, both must answer alike."""
