"""`basisgen verify`: a package re-checked by code that shares nothing with the compiler but its error classes.

statement.py  certificate.json, read strictly into exact numbers and polynomials; manifest.py the manifest
checker.py    the mathematics: the law, independence, completeness. Read this one to be convinced
products.py   the filters of separable layers are sums of products, exactly
floats.py     every float64 is the exact number, correctly rounded
rotations.py  the kernels under random rotations, filters without a formula under the turns of their grid
defect.py     the stated defects, by quadrature
module.py     what the generated convolutions should compute, expected.py, compared with what probe.py saw them compute
probe.py      runs the package's own code, alone, in a fresh process
verify.py     the recipe and its report
"""
