"""Networks by name: a body that makes features, and a linear head."""
