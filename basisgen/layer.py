"""What a kind of layer is: all that the compiler asks of it, stage by stage. A convolution is one kind.

    text -> LayerSpec -> claims -> solve -> prove -> compute -> LayerPlan -> Contribution

A kind is a record of functions; `basisgen.spec.KINDS` lists them all. Data between the stages is frozen. What a claim,
its solution, its proof and the numbers are, only the kind knows: the recipe just hands them on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from basisgen.so3.field_type import FieldType

Claim = Hashable  # what must be solved and proved, by name: a pair of irreps, a coupling, a grid
Array = NDArray[Any]


class LayerSpec(Protocol):
    """One layer as the spec states it: frozen and validated."""

    @property
    def name(self) -> str:
        """The class it becomes."""

    @property
    def kind(self) -> str:
        """The name of its kind."""

    @property
    def into(self) -> FieldType:
        """The fields that go in."""

    @property
    def out(self) -> FieldType:
        """The fields the user asked for: what the next layer takes."""

    @property
    def gives(self) -> FieldType:
        """The fields the module returns: `out`, and what a layer adds for the activation behind it."""

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, which the kind's `parse` reads back into an equal spec."""

    def command_line(self) -> str | None:
        """The command that compiles this layer alone, without a name; None where there is none."""


class SpecDefaults:
    """What holds of the spec of most kinds: the module returns `out`, and no command compiles the layer alone."""

    kind: ClassVar[str]

    @property
    def gives(self: LayerSpec) -> FieldType:
        """See LayerSpec: `out`."""
        return self.out

    def command_line(self) -> str | None:
        """See LayerSpec: None."""
        return None


class LayerPlan(Protocol):
    """One layer, all numbers decided: how it runs, and what it costs."""

    @property
    def spec(self) -> LayerSpec:
        """What it is the plan of."""

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted."""

    @property
    def silent_terms(self) -> tuple[str, ...]:
        """The terms of the output that nothing reaches: their channels are zero, apart from a bias."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it, as plain JSON values."""


class PlanDefaults:
    """What holds of the plan of most kinds: a degree that nothing reaches is refused in the spec."""

    @property
    def silent_terms(self) -> tuple[str, ...]:
        """No term: every output is reached."""
        return ()


@dataclass(frozen=True, eq=False)
class Contribution:
    """What the layers of one kind bring to a package together."""

    tensors: Mapping[str, Array]  # of basis.safetensors: numbers float64, indices of any whole type
    claims: Mapping[str, Any]  # sections of certificate.json
    facts: Mapping[str, Any] = field(default_factory=dict)  # sections of manifest.json
    sources: Mapping[str, str] = field(default_factory=dict)  # modules its layers share: file name -> text


def _no_notes(plan: object) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Kind:
    """A kind of layer: its words in a spec, and one function per stage."""

    name: str  # in a spec: kind = "conv"
    noun: str  # in sentences: "convolution"
    options: tuple[str, ...]  # the keys of its table beside kind, name, in and out; those that [defaults] may hold
    reserved: frozenset[str]  # names of classes that its generated modules import
    parse: Callable[[str, Mapping[str, object]], LayerSpec]  # name, table; raises SpecError
    claims: Callable[[Any], Iterable[Claim]]  # what a layer needs proved
    solve: Callable[[Any], Any]  # a claim -> its exact solution, not yet proved
    prove: Callable[[Any], Any]  # a solution -> the proven one; raises ProofError
    shares: Callable[[Any], tuple[str, str]]  # (stem of a name, key): layers of one key share their numbers
    compute: Callable[[Sequence[Any], Mapping[Any, Any]], Any]  # layers that share, proven claims -> float64 numbers
    plan: Callable[[Any, Mapping[Any, Any], str, Any, Any], LayerPlan]  # spec, proven, name, numbers, tuned
    gather: Callable[[Sequence[Any], Mapping[Any, Any]], Contribution]  # plans of a package's layers, proven claims
    # plan, the comment every generated file begins with, SHA-256 of basis.safetensors -> the text of its module
    source: Callable[[Any, str, str], str]
    notes: Callable[[Any], tuple[str, ...]] = _no_notes  # plan -> lines for the user, `warning: ...` or `note: ...`
