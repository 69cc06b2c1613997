"""The orientation of fibres at every voxel of a noisy volume: a degree-2 field predicted from a scalar field."""
