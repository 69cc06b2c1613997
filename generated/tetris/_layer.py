# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""What every layer of this package shares: weights alone for its state, and a statement of what they mean.

The same weights give another map under other field types or filters. So the state says what it was made for, by
a fingerprint and in words, and loads nowhere else. Names of packages and classes do not count: a renamed layer loads.
"""

import warnings
from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from ._constants import constants, tensors

FINGERPRINT = 16  # hexadecimal digits
STATEMENT = 256  # letters that the state holds: the fingerprint, then words
EXTRA_STATE = "_extra_state"  # torch's name for it in a state


class GeneratedLayer(nn.Module):
    """A layer with weights that know what they were made for, and with constants that no tool can change.

    Raises RuntimeError if basis.safetensors is not the file the code was compiled with.
    """

    basisgen_kind: str
    basis_sha256: str  # of basis.safetensors
    fingerprint: str  # 16 hexadecimal digits, equal where weights are interchangeable

    def __init__(self) -> None:
        super().__init__()
        tensors(self.basis_sha256)

    @classmethod
    def words(cls) -> str:
        """What gives the weights their meaning, in a few words for messages."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """What the weights were made for, as numbers for the state."""
        return _numbers(self._statement())

    def set_extra_state(self, state: object) -> None:
        """Raises ValueError unless the weights of that state mean the same here."""
        if isinstance(state, Tensor) and (state.is_meta or hasattr(state, "fake_mode")):
            return  # it has no numbers
        self._refuse_others(_letters(state))

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Weights made for something else are an error and are not taken; those that do not say are, with a warning."""
        key = prefix + EXTRA_STATE
        try:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
        except ValueError as error:
            error_msgs.append(f"{prefix.rstrip('.') or type(self).__name__}: {error}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if key not in state_dict and any(prefix + name in state_dict for name in self._parameters):
            warnings.warn(_silent("state"), stacklevel=2)
        if key in missing_keys:
            missing_keys.remove(key)

    def __getstate__(self) -> dict[str, Any]:
        """What pickle keeps: also the fingerprint, since the class of this name may be another when it is read."""
        attributes: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**attributes, "_statement": self._statement()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the package was compiled for something else since."""
        attributes = dict(state)
        statement = attributes.pop("_statement", None)
        if statement is None:
            warnings.warn(_silent("pickled layer"), stacklevel=2)
            attributes["_buffers"] = {}  # of a package that kept its constants there
        else:
            self._refuse_others(statement)
        super().__setstate__(attributes)  # type: ignore[no-untyped-call]

    def _constants(self, make: str, weight: Tensor, *choice: int) -> Any:
        """The tensors that the class method `make` gives, for this weight."""
        return constants(type(self), make, weight, *choice)

    @classmethod
    def _statement(cls) -> str:
        package = cls.__module__.rpartition(".")[0] or cls.__module__
        return f"{cls.fingerprint} {package}.{cls.__name__}: {cls.words()}"[:STATEMENT]

    @classmethod
    def _refuse_others(cls, statement: str) -> None:
        ours = cls._statement()
        if statement[:FINGERPRINT] != ours[:FINGERPRINT]:
            raise ValueError(
                f"these weights were made for '{statement[FINGERPRINT:].strip()}', but this layer is "
                f"'{ours[FINGERPRINT:].strip()}': other field types or filters. Compile the package that they were "
                "made with, or train again. To load the bare numbers all the same, leave the keys that end in "
                f"'{EXTRA_STATE}' out of the state."
            )


def _numbers(letters: str) -> Tensor:
    """ASCII letters as float32 numbers 16 * code + 8: averages, half precision and truncation leave them readable."""
    codes = letters.encode("ascii", "replace").ljust(STATEMENT)
    return torch.tensor([16 * code + 8 for code in codes], dtype=torch.float32, device="cpu")


def _letters(numbers: object) -> str:
    """What `_numbers` wrote; '?' for what is not a printable letter."""
    if not isinstance(numbers, Tensor) or numbers.is_complex() or numbers.layout is not torch.strided:
        return ""
    found = numbers.flatten()[:STATEMENT].tolist()
    codes = [int(number // 16) if isfinite(number) else 0 for number in found]
    return "".join(chr(code) if 32 <= code < 127 else "?" for code in codes)


def _silent(what: str) -> str:
    return (
        f"this {what} does not say for which field types and filters its weights were made: it was saved by an older "
        "basisgen. It was loaded without this check; save it again to have it checked from then on."
    )


def _is_exporting() -> bool:
    """Whether a graph is being made for another run time; torch 2.6 cannot tell this from torch.compile.

    The public function is_exporting() says yes under torch.compile too, in the versions before 2.13.
    """
    jit: Any = torch.jit
    compiler: Any = torch.compiler
    if jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    exporting = getattr(compiler, "_is_exporting_flag", None)
    return bool(compiler.is_compiling() if exporting is None else exporting)


def _is_transformed() -> bool:
    """Whether torch.func, or a forward-mode derivative, is at work: some operators here have backward passes alone.

    No public function tells. If these private functions are missing, the answer is yes: what a layer does then, by
    stock operators, is right in every case.
    """
    transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
    forward_level: int = getattr(torch.autograd.forward_ad, "_current_level", 0)
    return bool(transforms_active() or forward_level >= 0)
