"""Which of the 20 amino acids belongs here: a class from the atoms around a residue whose side chain is removed."""
