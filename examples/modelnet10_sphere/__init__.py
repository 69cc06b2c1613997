"""ModelNet10 as signals on the sphere: rays from all sides to the centre, and networks on their coefficients."""
