"""The Redis side of the contract: one Lua script an operation, read as package data."""
