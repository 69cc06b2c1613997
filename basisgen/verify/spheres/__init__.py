"""Layers between fields on the sphere, re-checked from a package's spec by code that shares none with the compiler."""
