"""The claims, one module per group, each listing its own in ``CLAIMS``; :mod:`proofs_check.registry` finds them."""
