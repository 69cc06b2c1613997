"""Volumes: convolutions, from the kernel constraint to taps and source text."""
