"""`basisgen verify`: a package re-checked by code that shares nothing with the compiler but its error classes.

verify.py     the recipe; verdict.py what it found
files.py      the directory, read at one moment; canonical.py and tensors.py: JSON and tensors in their one form
manifest.py   the manifest, as far as it is needed; derived.py: everything against what the compiler writes for its spec
bytecode.py   what the interpreter has cached
statement.py  certificate.json, read strictly into exact numbers and polynomials
checker.py    the mathematics: the law, independence, completeness. Read this one to be convinced
floats.py     every float64 is the exact number, correctly rounded
rotations.py  the kernels under random rotations, filters without a formula under the turns of their grid
volumes/      convolutions: products and expansions of separable layers, defects by quadrature, and what the modules
              should compute, expected.py, compared with what probe.py saw them compute
isolation.py  a package's own code in a separate process
"""
