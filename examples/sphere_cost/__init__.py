"""What one layer of products on the sphere costs against its band limit, and how equivariant layers are."""
