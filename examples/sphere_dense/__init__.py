"""Maps on the sphere with missing pixels, restored: a dense prediction by an equivariant U-Net of bands."""
