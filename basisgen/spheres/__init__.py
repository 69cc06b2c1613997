"""Layers between fields on the sphere and the rotation group: products, linear maps, transforms; nothing of volumes."""
