"""Shapes in any orientation, recognised and retrieved: the SHREC17 network of Weiler et al. 2018 on ModelNet10."""
