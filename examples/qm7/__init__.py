"""QM7: atomisation energies of molecules from signals about their atoms."""
