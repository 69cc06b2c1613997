"""The kernel constraint (constraint), its solution by Clebsch-Gordan (solver) and the exact proof (proof)."""
