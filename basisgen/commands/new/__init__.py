"""`basisgen new`: a small project that runs as it is."""
