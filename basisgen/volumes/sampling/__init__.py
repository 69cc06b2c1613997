"""Voxel grids, radial families, exact filters to float64, and the defect that sampling causes."""
