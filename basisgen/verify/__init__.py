"""`basisgen verify`: a package re-checked by code that shares nothing with the compiler but its error classes.

statement.py  certificate.json, read strictly into exact numbers and polynomials
checker.py    the mathematics: the law, independence, completeness, every float64. Read this one to be convinced
files.py      the digests, and that no other file is there
module.py     what the generated convolutions should compute, compared with what probe.py saw them compute
probe.py      runs the package's own code, alone, in a fresh process
verify.py     the recipe and its report
"""
