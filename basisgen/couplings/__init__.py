"""Couplings (j, l, J): what volumes and spheres share, from the intertwiner identity (law) to float64 tables."""
