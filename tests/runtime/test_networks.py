"""Ready networks: built from a package's own list of layers, equivariant as a whole, of any size, ready to freeze."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import onnxruntime
import pytest
import torch
from torch import nn

import runtime
from runtime.testing import assert_equivariant

Compile = Callable[[str], ModuleType]


def _text(kind: str, *lines: str, name: str = "net") -> str:
    return "\n".join([f'name = "{name}"', "[network]", f'kind = "{kind}"', 'in = "1x0"', *lines])


SMALL = ('out = "3x0"', 'fields = "2x0 + 1x1"')


def _spread_statistics(model: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """Running statistics that are not those of a new layer."""
    model.train()
    for _ in range(3):
        model(torch.randn(2, 1, *size))
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "lines", "size"),
    [
        ("classifier", (*SMALL, "features = 5"), (8, 8, 8)),
        ("classifier", (*SMALL, "even = false", 'norm = "instance"'), (9, 9, 9)),
        ("encoder", (*SMALL, "residual = true"), (8, 8, 8)),
        ("encoder", ('out = "2x0 + 2x1"', 'fields = "2x0 + 1x1"', "fine = true", 'activation = "norm"'), (8, 8, 8)),
        ("unet", (*SMALL, "depth = 3"), (8, 8, 8)),
        ("unet", ('out = "1x0 + 1x1"', 'fields = "2x0 + 1x1"', "even = false", 'activation = "smooth"'), (9, 9, 9)),
        ("unet", (*SMALL, "fine = false", 'norm = "none"'), (8, 8, 8)),
        ("unet", (*SMALL, "voxel_spacing = [1, 1, 2]"), (8, 8, 4)),
        ("classifier", (SMALL[0], 'fields = "2x0..2"', 'activation = "sphere"'), (8, 8, 8)),
        ("encoder", ('out = "2x0 + 2x1"', 'fields = "2x0..1"', 'activation = "sphere"', "residual = true"), (8, 8, 8)),
        ("unet", (SMALL[0], 'fields = "1x0..1"', 'activation = "sphere"', "grid_limit = 4"), (8, 8, 8)),
    ],
)
def test_turns_of_the_grid_commute_with_every_kind(
    compile_and_import: Compile, kind: str, lines: tuple[str, ...], size: tuple[int, int, int]
) -> None:
    model = _spread_statistics(runtime.network(compile_and_import(_text(kind, *lines))), size)
    print(assert_equivariant(model, size=size, batch=1, wavelengths=()))


def test_off_its_sizes_a_network_does_not_commute_exactly(compile_and_import: Compile) -> None:
    """The control: at an odd size a network for even ones has its grids off centre."""
    model = runtime.network(compile_and_import(_text("classifier", *SMALL))).eval()
    assert model.encoder.padded((9, 9, 9)) == (12, 12, 12)
    with pytest.raises(AssertionError):
        assert_equivariant(model, size=9, batch=1, wavelengths=())


def test_answers_have_the_sizes_that_the_kinds_promise(compile_and_import: Compile) -> None:
    volume = torch.randn(2, 1, 9, 10, 7)
    classifier = runtime.network(compile_and_import(_text("classifier", *SMALL, "depth = 3", name="a")))
    unet = runtime.network(compile_and_import(_text("unet", *SMALL, name="b")))
    encoder = runtime.network(compile_and_import(_text("encoder", *SMALL, name="c")))
    assert classifier(volume).shape == (2, 3)
    assert unet(volume).shape == (2, 3, 9, 10, 7)
    assert encoder(volume).shape == (2, 3, 3, 3, 2)


def test_deep_supervision_gives_an_answer_of_every_level_in_training(compile_and_import: Compile) -> None:
    model = runtime.network(compile_and_import(_text("unet", *SMALL, "depth = 4", "deep_supervision = true")))
    volume, labels = torch.randn(1, 1, 9, 8, 8), torch.randint(3, (1, 9, 8, 8))
    answers = model(volume)
    assert isinstance(answers, list) and [a.shape for a in answers] == [(1, 3, 9, 8, 8)] * 3
    loss = runtime.deep_supervision(nn.functional.cross_entropy)
    whole = loss(answers, labels)
    parts = [nn.functional.cross_entropy(answer, labels) for answer in answers]
    assert torch.allclose(whole, (4 * parts[0] + 2 * parts[1] + parts[2]) / 7)
    whole.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval()(volume).shape == (1, 3, 9, 8, 8)
    assert torch.equal(loss(answers[0], labels), parts[0])


@pytest.mark.parametrize("kind", ["classifier", "unet"])
def test_frozen_networks_compute_the_same_with_every_norm_folded(compile_and_import: Compile, kind: str) -> None:
    model = _spread_statistics(runtime.network(compile_and_import(_text(kind, *SMALL))), (8, 8, 8))
    frozen = runtime.freeze(model)
    volume = torch.randn(1, 1, 8, 8, 8)
    assert torch.allclose(frozen(volume), model(volume), atol=1e-4)
    assert not any("Affine" in type(layer).__name__ or "Norm" in type(layer).__name__ for layer in frozen.modules())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, while it exports
@pytest.mark.parametrize(
    ("kind", "lines"), [("unet", ()), ("unet", ("even = false",)), ("encoder", ()), ("classifier", ())]
)
def test_an_exported_network_pads_and_crops_volumes_of_any_size(
    compile_and_import: Compile, kind: str, lines: tuple[str, ...]
) -> None:
    """Exported at a size that needs padding, or at one that needs none: the program keeps neither answer."""
    from torch.export import Dim

    model = runtime.freeze(runtime.network(compile_and_import(_text(kind, *SMALL, *lines))).eval())
    sizes = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO, 4: Dim.AUTO}
    for example in ((8, 8, 8), (9, 10, 7)):
        volumes = torch.randn(2, 1, *example)
        program = torch.export.export(model, (volumes,), dynamic_shapes=(sizes,)).module()
        graph = torch.onnx.export(model, (volumes,), dynamo=True, dynamic_shapes=(sizes,), verbose=False)
        assert graph is not None
        session = onnxruntime.InferenceSession(
            graph.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for size in ((8, 8, 8), (12, 9, 10), (7, 16, 11)):
            other = torch.randn(1, 1, *size)
            (answer,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
            torch.testing.assert_close(program(other), model(other), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(torch.from_numpy(answer), model(other), rtol=1e-4, atol=1e-4)


def test_norm_activation_and_dropout_can_be_others_than_the_spec_says(compile_and_import: Compile) -> None:
    package = compile_and_import(_text("classifier", *SMALL, "dropout = 0.25"))
    named = runtime.network(package)
    assert {layer.p for layer in named.modules() if isinstance(layer, runtime.FieldDropout)} == {0.25}
    other = runtime.network(package, norm=runtime.GroupNorm, activation="smooth", dropout=0)
    kinds = [type(layer) for layer in other.modules()]
    assert runtime.GroupNorm in kinds and runtime.BatchNorm not in kinds and runtime.FieldDropout not in kinds
    plain = runtime.network(package, norm="none")
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in named.parameters())


def test_a_network_learns(compile_and_import: Compile) -> None:
    torch.manual_seed(0)
    model = runtime.network(compile_and_import(_text("classifier", *SMALL)))
    volumes, labels = torch.randn(6, 1, 8, 8, 8), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(volumes), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_what_it_cannot_build_is_one_clear_line(compile_and_import: Compile) -> None:
    package = compile_and_import(_text("classifier", *SMALL))
    bare = compile_and_import('name = "bare"\n[[conv]]\nname = "A"\nin = "1x0"\nout = "1x0"\nkernel_size = 3')
    with pytest.raises(TypeError, match=r"'bare' has none\. Add the table"):
        runtime.network(bare)
    with pytest.raises(TypeError, match="not depth: everything else is part of the spec"):
        runtime.network(package, depth=3)
    with pytest.raises(ValueError, match="norm = 'layer' is not one of batch, instance, none"):
        runtime.network(package, norm="layer")
    with pytest.raises(ValueError, match=r'not one of gate, smooth, norm\. Compile with activation = "sphere"'):
        runtime.network(package, activation="sphere")
    fields = compile_and_import(_text("encoder", 'out = "1x1"', 'fields = "2x0 + 1x1"', name="vector_encoder"))
    with pytest.raises(ValueError, match="invariant scalars"):
        runtime.Classifier(runtime.network(fields), 3)
