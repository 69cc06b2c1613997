"""Experiments: each a package with a README, run by `python -m examples.<name>`."""
