"""Representations of SO(3) and O(3): field types, harmonics, generators, D^l, Clebsch-Gordan; nothing of volumes."""
