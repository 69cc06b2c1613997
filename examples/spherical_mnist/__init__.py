"""Digits of MNIST on the sphere, upright and in any orientation (Cohen et al. 2018)."""
