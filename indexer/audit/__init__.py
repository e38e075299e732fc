"""The log as a product: sealed into one order, exported, verified."""
