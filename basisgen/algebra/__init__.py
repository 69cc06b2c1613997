"""Exact algebra over the rationals: polynomials in x, y, z; square roots of rationals; rank."""
