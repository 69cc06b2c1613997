"""`basisgen verify`: good packages pass; after any change the right check says so, and where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import basisgen.verify
from basisgen.errors import OutputError
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.rotations import generating, turns_of
from basisgen.verify.verdict import Verdict
from basisgen.verify.verify import verify_package
from basisgen.verify.volumes.module import ProbeError
from tests.verify.conftest import ROTATIONS_ONLY, Files, failed, redigest, run_module, with_certificate, with_tensors

Verify = Callable[..., Verdict]
VERIFIER = Path(basisgen.verify.__file__).parent
REPOSITORY = VERIFIER.parent.parent
DEGREES = "cutoff=12,12,12,12"

# ------------------------------------------------------------------------------------------------------ good packages


def test_a_good_package_is_verified_and_nothing_is_left_out(mirrored: Files, verify: Verify) -> None:
    verdict = verify(mirrored, run=True)
    assert verdict.verified and all(check.passed for check in verdict.checks), verdict.complaints
    assert [check.name for check in verdict.checks] == [
        *("files", "code", "certificate", "harmonics", "law", "complete", "orthonormal", "floats", "taps", "rotations"),
        *("defect", "kernel", "convolution", "turns"),
    ]
    assert json.loads(verdict.as_json())["verified"] is True


def test_without_running_nothing_is_run_and_the_report_says_so(small: Files, verify: Verify) -> None:
    verdict = verify(small, run=False)
    assert verdict.verified and verdict.summary().endswith(": verified, without kernel, convolution, turns")


def test_without_a_compiler_nothing_is_verified_nor_run(small: Files, verify: Verify) -> None:
    verdict = verify(small, run=True, compiler=False)
    assert not verdict.verified and not verdict.complaints
    assert (
        "NOT VERIFIED: nothing wrong was found, but these checks were not done: code (there is no compiler to ask)"
        in (verdict.summary())
    )
    not_done = {check.name for check in verdict.checks if check.not_done}
    assert not_done == {"code", "taps", "kernel", "convolution", "turns"}


@pytest.mark.parametrize("version", ["0.0.9", "0.1.1", "99", "0.1.0.post1"])
def test_a_package_of_another_version_is_not_verified_and_the_cure_is_named(
    small: Files, verify: Verify, version: str
) -> None:
    manifest = small["manifest.json"].replace(b'"basisgen": "0.1.0"', f'"basisgen": "{version}"'.encode())
    assert manifest != small["manifest.json"]
    verdict = verify({**small, "manifest.json": manifest}, run=True)
    assert failed(verdict) == {"code"} and not verdict.verified
    assert f"compile it again, or install basisgen=={version}" in verdict.complaints[0]


def test_the_verifier_imports_nothing_of_the_compiler() -> None:
    for path in VERIFIER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root, *rest = name.split(".")
                assert root not in ("sympy", "scipy", "pickle"), f"{path.name} imports {name}"
                assert root != "marshal" or name == "marshal.dumps", f"{path.name} imports {name}"
                assert root != "basisgen" or rest[0] in ("verify", "errors"), f"{path.name} imports {name}"


def test_the_module_to_trust_stays_short() -> None:
    assert len((VERIFIER / "checker.py").read_text().splitlines()) < 300


def test_a_directory_that_is_not_a_package_is_the_callers_mistake(small: Files, verify: Verify, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        verify_package(tmp_path / "nowhere")
    del (files := dict(small))["manifest.json"]
    with pytest.raises(OutputError, match=r"package is not a package of basisgen's: it has no manifest\.json\. Name"):
        verify(files)


# -------------------------------------------------------------------------------------------------- (a) the certificate


def test_any_sign_flipped_in_the_certificate_is_found(small: Files, mirrored: Files, verify: Verify) -> None:
    for files in (small, mirrored):
        tables = json.loads(files["certificate.json"])["clebsch_gordan"]
        for pair, J in [(key, degree) for key in tables for degree in tables[key]]:

            def flip(certificate: dict[str, Any], pair: str = pair, J: str = J) -> None:
                row = certificate["clebsch_gordan"][pair][J][-1]
                row[3] = row[3].removeprefix("-") if row[3].startswith("-") else f"-{row[3]}"

            verdict = verify(with_certificate(files, flip), compiler=False)
            j, l = pair.split()
            single = pair == "0 0"  # there a sign is a scale: another basis, but not the one in the tensors
            assert failed(verdict) == ({"floats"} if single else {"law", *failed(verdict) - {"law"}})
            assert any(f"pair {j} <- {l}, element J = {J}" in complaint for complaint in verdict.complaints)


def _drop_consistently(certificate: dict[str, Any]) -> None:
    del certificate["clebsch_gordan"]["1 1"]["1"]
    for pair in certificate["pairs"]:
        if (pair["out"], pair["in"]) == ("1", "1"):
            pair["J"], pair["dimension"] = [0, 2], 2


def test_a_dropped_element_is_found_by_counting_the_solutions(small: Files, verify: Verify) -> None:
    verdict = verify(with_certificate(small, _drop_consistently), compiler=False)
    assert "complete" in failed(verdict)
    assert any("pair 1 <- 1 has 2 elements" in text and "dimension 3" in text for text in verdict.complaints)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda c: c["clebsch_gordan"]["1 1"].pop("1"), "clebsch_gordan 1 1"),
        (lambda c: c["pairs"].pop(3), ""),
        (lambda c: c["pairs"].append(c["pairs"][0]), "twice"),
        (lambda c: c["pairs"][3]["J"].append(c["pairs"][3]["J"][-1]), "do not increase"),
        (lambda c: c["clebsch_gordan"]["1 1"]["1"].append(c["clebsch_gordan"]["1 1"]["1"][0]), "twice"),
        (lambda c: c["harmonics"]["1"].pop(), "harmonics of degree 1"),
        (lambda c: c["harmonics"].pop("1"), "harmonics"),
        (lambda c: c["harmonics"].update({"7": c["harmonics"]["0"]}), "harmonics of degree 7"),
        (lambda c: c["filters"].update({"more": c["filters"]["filters_3x3x3"]}), "no layer uses more"),
        (lambda c: c["filters"]["filters_3x3x3"]["grid"].update({"spacing": ["2", "1", "1"]}), "not that of layer"),
        (lambda c: c.update({"format": 2}), "format"),
        (lambda c: c.update({"extra": 1}), "keys"),
    ],
)
def test_a_certificate_that_does_not_add_up_is_refused(
    small: Files, verify: Verify, change: Callable[[dict[str, Any]], None], where: str
) -> None:
    verdict = verify(with_certificate(small, change), compiler=False)
    assert failed(verdict) & {"certificate", "complete"}
    assert any(where in complaint for complaint in verdict.complaints), verdict.complaints


def test_an_element_doubled_under_the_same_key_is_refused(small: Files, verify: Verify) -> None:
    text = small["certificate.json"].decode()
    start = text.index('   "1": [', text.index('"1 1": {'))
    element = text[start : text.index("],\n   ", text.index("\n   ]", start) - 5) + 6]
    doubled = text[:start] + element.rstrip().rstrip(",") + ",\n" + text[start:]
    verdict = verify(redigest({**small, "certificate.json": doubled.encode()}), compiler=False)
    assert failed(verdict) == {"certificate"} and "is there twice" in verdict.complaints[0]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda c: c["harmonics"]["1"].reverse(), "harmonics"),  # orthonormal and closed, but other names
        (lambda c: c["harmonics"]["2"].__setitem__(0, ["15", "-x*z"]), "harmonics"),  # another sign
        (lambda c: c["harmonics"]["2"].__setitem__(0, ["30", "x*z"]), "harmonics"),  # another length
        (lambda c: c["harmonics"]["2"].__setitem__(0, ["15", "x^2"]), "harmonics"),  # not harmonic
        (lambda c: c["harmonics"]["1"].__setitem__(0, ["3", "x*y"]), "certificate"),  # another degree
        (lambda c: c["harmonics"]["0"].__setitem__(0, ["4", "1"]), "harmonics"),
        (lambda c: _scale_element(c, "1 1", "2", 4), "orthonormal"),
        (lambda c: _scale_element(c, "0 1", "1", 9), "orthonormal"),
    ],
)
def test_each_step_of_the_proof_has_something_only_it_refuses(
    small: Files, verify: Verify, change: Callable[[dict[str, Any]], None], check: str
) -> None:
    assert check in failed(verify(with_certificate(small, change), compiler=False))


def _scale_element(certificate: dict[str, Any], pair: str, J: str, square: int) -> None:
    """Multiplies an element by a root: a solution still, not normalised any more."""
    for row in certificate["clebsch_gordan"][pair][J]:
        sign, inner = row[3].split("sqrt(")
        numerator, *denominator = inner.rstrip(")").split("/")
        row[3] = f"{sign}sqrt({'/'.join([str(int(numerator) * square), *denominator])})"


def test_an_element_of_the_wrong_parity_is_found(mirrored: Files, verify: Verify) -> None:
    def swap_parity(certificate: dict[str, Any]) -> None:
        for pair in certificate["pairs"]:
            if (pair["out"], pair["in"]) == ("1o", "1o"):
                pair["out"] = "1e"
            elif (pair["out"], pair["in"]) == ("1e", "1o"):
                pair["out"] = "1o"

    verdict = verify(with_certificate(mirrored, swap_parity), compiler=False)
    assert {"law", "complete"} <= failed(verdict)
    assert any("wrong parity" in complaint for complaint in verdict.complaints)


def test_a_certificate_of_another_package_is_refused(small: Files, mirrored: Files, verify: Verify) -> None:
    verdict = verify({**small, "certificate.json": mirrored["certificate.json"]})
    assert {"files", "certificate"} <= failed(verdict)
    verdict = verify(redigest({**small, "certificate.json": mirrored["certificate.json"]}), compiler=False)
    assert "certificate" in failed(verdict) and any("is missing" in complaint for complaint in verdict.complaints)


# ------------------------------------------------------------------------------------------------------- (b) the floats


def test_any_float_moved_by_one_ulp_is_found(small: Files, mirrored: Files, verify: Verify) -> None:
    random = np.random.default_rng(0)
    for files in (small, mirrored):
        tensors = _tensors(files)
        for name, tensor in tensors.items():
            indices = [tuple(int(random.integers(n)) for n in tensor.shape) for _ in range(3)]
            for index, direction in product(indices, (np.inf, -np.inf)):

                def move(changed: dict[str, Any], name: str = name, i: Any = index, to: float = direction) -> None:
                    changed[name][i] = np.nextafter(changed[name][i], to)

                verdict = verify(with_tensors(files, move), compiler=False)
                assert failed(verdict) == {"floats"} and len(verdict.complaints) == 1
                assert (
                    f"basis.safetensors: {name}, " in verdict.complaints[0] and "element J = " in verdict.complaints[0]
                )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 5e-324])
def test_nan_infinite_and_extreme_coefficients_are_found(small: Files, verify: Verify, value: float) -> None:
    def put(tensors: dict[str, Any]) -> None:
        tensors["clebsch_gordan_1_1"][0, 0, 1] = value

    assert failed(verify(with_tensors(small, put), compiler=False)) == {"floats"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda t: t.update(clebsch_gordan_0_1=t["clebsch_gordan_1_0"], clebsch_gordan_1_0=t["clebsch_gordan_0_1"]),
            "",
        ),
        (lambda t: t.update(filters_3x3x3=t["filters_3x3x3"][::-1].copy()), "element J = 0"),
        (lambda t: t.update(filters_3x3x3=t["filters_3x3x3"].transpose(0, 3, 2, 1).copy()), "element J = 1"),
        (lambda t: t.update(filters_3x3x3=t["filters_3x3x3"].astype(np.float32)), "not F64"),
        (lambda t: t.update(filters_3x3x3=t["filters_3x3x3"][:-1].copy()), "not F64"),
        (lambda t: t.pop("clebsch_gordan_1_1"), "clebsch_gordan_1_1 is missing"),
        (lambda t: t.update(more=np.zeros(1)), "more is not in the certificate"),
    ],
)
def test_tensors_exchanged_missing_added_or_of_another_kind_are_found(
    small: Files, verify: Verify, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    verdict = verify(with_tensors(small, change), compiler=False)
    assert failed(verdict) == {"floats"} and any(complaint in text for text in verdict.complaints)


def test_two_filter_tensors_of_one_shape_exchanged_are_found(verify: Verify) -> None:
    second = ROTATIONS_ONLY.split("\n", 2)[2].replace("Conv1", "Conv2").replace('"shells"', '"shells", sigma = 0.7')
    files = compile_package(parse_package(ROTATIONS_ONLY + second))

    def exchange(tensors: dict[str, Any]) -> None:
        a, b = "filters_3x3x3", "filters_3x3x3_2"
        tensors[a], tensors[b] = tensors[b], tensors[a]

    assert verify(files).verified
    verdict = verify(with_tensors(files, exchange))
    assert failed(verdict) == {"floats", "taps"}
    assert "filters_3x3x3, element J = 0, profile exp(" in verdict.complaints[0]


def _tensors(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with_tensors(files, found.update)
    return found


# -------------------------------------------------------------------------------------------------------- (c) the files


def test_a_changed_byte_in_any_file_is_found_and_no_code_is_run(small: Files, verify: Verify, tmp_path: Path) -> None:
    for name in small:
        body = bytearray(small[name])
        # in the manifest, a digest: its measured figures may differ in the last digits from platform to platform
        body[body.rindex(b'"') - 1 if name == "manifest.json" else len(body) // 2] ^= 1
        verdict = verify({**small, name: bytes(body)}, run=True, compiler=False)
        assert not verdict.verified and {check.name for check in verdict.checks if check.not_done} >= {
            "kernel",
            "turns",
        }
        assert any(name in complaint for complaint in verdict.complaints)


def test_code_with_a_wrong_digest_is_never_run(small: Files, verify: Verify, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    code = f"open({str(marker)!r}, 'w')\n".encode()
    for name in ("__init__.py", "conv1.py", "_steerable.py"):
        verdict = verify({**small, name: code + small[name]}, run=True)
        assert failed(verdict) == {"files", "code"} and not marker.exists()
    verdict = verify(redigest({**small, "conv1.py": code + small["conv1.py"]}), run=True)  # the compiler knows better
    assert failed(verdict) == {"code"} and not marker.exists()


def test_a_file_added_or_missing_is_named(small: Files, verify: Verify, tmp_path: Path) -> None:
    for name in small.keys() - {"manifest.json"}:
        files = {other: body for other, body in small.items() if other != name}
        verdict = verify(files)
        assert not verdict.verified and any(f"{name} is missing" in complaint for complaint in verdict.complaints)
    verdict = verify({**small, "notes.py": b""})
    assert failed(verdict) == {"files", "code"} and "notes.py is not in manifest.json" in verdict.complaints


@pytest.mark.parametrize("kind", ["link", "directory", "link to a directory"])
def test_only_regular_files_belong_in_a_package(small: Files, verify: Verify, tmp_path: Path, kind: str) -> None:
    (tmp_path / "package").mkdir()
    stranger = tmp_path / "package" / "stranger.py"
    if kind == "directory":
        stranger.mkdir()
    else:
        stranger.symlink_to("manifest.json" if kind == "link" else tmp_path)
    verdict = verify(small)
    assert failed(verdict) == {"files"} and "stranger.py is not a regular file" in verdict.complaints[0]


# ------------------------------------------------------------------------------------------------------- (d) the module


def test_one_character_changed_in_a_module_is_found_even_with_a_matching_digest(small: Files, verify: Verify) -> None:
    body = small["_steerable.py"].replace(b"** 0.5", b"** 0.6", 1)
    assert body != small["_steerable.py"]
    assert failed(verify({**small, "_steerable.py": body})) == {"files", "code"}
    assert failed(verify(redigest({**small, "_steerable.py": body}))) == {"code"}


MUTATIONS = {  # what the file says -> what the forger writes, and the check that must notice
    ("_steerable.py", "** 0.5", "** 0.6", "kernel"),
    ("_steerable.py", "copy_out * (2 * j + 1) + m", "copy_out * (2 * j + 1) + (2 * j - m)", "kernel"),
    ("_steerable.py", "kernel = self.kernel()", "kernel = self.kernel().flip(2)", "convolution"),
    ("_steerable.py", "self.stride, self.padding, self.dilation)\n", "1, self.padding, self.dilation)\n", "kernel"),
    ("_steerable.py", "conv.bias.copy_(bias)", "conv.bias.zero_()", "convolution"),
    ("_steerable.py", "conv.weight.copy_(self.kernel())", "conv.weight.copy_(-self.kernel())", "convolution"),
    ("conv1.py", "kernel_size = (3, 3, 3)", "kernel_size = (3, 3, 1)", "kernel"),
    ("conv1.py", "in_type = ((1, 0, None), ", "in_type = ((1, 0, 1), ", "kernel"),
    ("conv1.py", "TermPath(out=0, into=0, J=0),", "TermPath(out=0, into=1, J=1),", "kernel"),
    ("__init__.py", "__all__", "raise RuntimeError('no')\n__all__", "kernel"),
    ("_steerable.py", "import functools", "import functools, basisgen", "kernel"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "old", "new", "check"), sorted(MUTATIONS))
def test_changed_behaviour_is_found_by_running_it(small: Files, file: str, old: str, new: str, check: str) -> None:
    text = small[file].decode()
    assert old in text, f"{file} does not hold {old!r} any more: choose another mutation"
    assert check in _found_by_running({**small, file: text.replace(old, new).encode()})


def test_a_module_that_forgets_a_sign_is_found_by_running_it(small: Files) -> None:
    text = small["_steerable.py"].decode()
    old = "return kernel.view("
    assert old in text
    changed = text.replace(old, "return -kernel.view(")
    assert _found_by_running({**small, "_steerable.py": changed.encode()}) == {"kernel", "convolution"}


def _found_by_running(files: Files) -> set[str]:
    """The properties that are wrong; "kernel" where the code does not get that far."""
    try:
        return {name for name, found in run_module(files).items() if found.complaints}
    except ProbeError:
        return {"kernel"}


@pytest.mark.slow
def test_a_pair_of_degree_6_on_7_taps_is_verified(tmp_path: Path) -> None:
    cli = [sys.executable, "-m", "basisgen.cli"]
    options = ["6", "6", "--kernel-size", "7", "--radial", DEGREES, "--out", tmp_path]
    subprocess.run([*cli, "conv", *options], check=True, cwd=REPOSITORY, capture_output=True)
    verify = [*cli, "verify", tmp_path / "conv"]
    result = subprocess.run(verify, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("size", "mirrors", "order"), [((3, 3, 3), False, 24), ((3, 3, 3), True, 48), ((3, 3, 2), True, 16)]
)
def test_few_turns_generate_all(size: tuple[int, int, int], mirrors: bool, order: int) -> None:
    turns = turns_of(size, [Fraction(1)] * 3, mirrors=mirrors)
    chosen = generating(turns)
    assert len(turns) == order and len(chosen) <= 5
    found = {np.eye(3, dtype=int).tobytes(): np.eye(3, dtype=int)}
    for _ in range(order):
        found |= {(g @ h).tobytes(): g @ h for g in chosen for h in list(found.values())}
    assert found.keys() == {g.tobytes() for g in turns}
