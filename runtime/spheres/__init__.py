"""Signals on the sphere and the rotation group: data, activations, pooling, whole networks. Needs torch only."""
