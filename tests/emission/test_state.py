"""Code, tensors and weights of different compiles never meet unnoticed."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from basisgen.emission.write import write_package
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from runtime.train.processes import join_group, leave_group

Compile = Callable[..., ModuleType]
NAME = "state_case"


def spec(layer: str = "Conv", into: str = "1x0 + 1x1", out: str = "2x0 + 1x1", **options: object) -> str:
    facts = {"kernel_size": 5, "radial": '{ family = "shells" }', **options}
    lines = [f"{key} = {value}" for key, value in facts.items()]
    return "\n".join([f'name = "{NAME}"', "[[conv]]", f'name = "{layer}"', f'in = "{into}"', f'out = "{out}"', *lines])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to import from; what was imported is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        yield tmp_path
    forget()


def forget() -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == NAME]:
        del sys.modules[module]


@pytest.fixture
def compiled(place: Path) -> Compile:
    """Compiles a spec under the one name, and imports it as a new process does, unless told to compile alone."""

    def compiled(text: str, *, and_import: bool = True) -> ModuleType | None:
        write_package(compile_package(parse_package(text)), place / NAME)
        if not and_import:
            return None
        forget()
        importlib.invalidate_caches()
        return importlib.import_module(NAME)

    return compiled


OLD, NEW = spec(), spec(radial='{ family = "shells", sigma = 0.4 }')


def test_old_code_refuses_new_tensors(compiled: Compile) -> None:
    package = compiled(OLD)
    compiled(NEW, and_import=False)
    with pytest.raises(RuntimeError) as error:
        package.Conv()
    message = str(error.value)
    assert f"basis.safetensors of the package {NAME} is not the file its code was compiled with" in message
    assert "restart the interpreter" in message and "compile the package again" in message


def test_old_code_that_has_its_tensors_goes_on(compiled: Compile) -> None:
    package = compiled(OLD)
    x = torch.randn(1, 4, 5, 5, 5)
    conv = package.Conv()
    expected = conv(x)
    compiled(NEW, and_import=False)
    assert torch.equal(conv(x), expected)
    other = package.Conv()
    other.load_state_dict(conv.state_dict())
    torch.testing.assert_close(other.double()(x.double()), expected.double(), rtol=1e-4, atol=1e-5)


def test_reloaded_code_has_the_tensors_it_was_compiled_with(compiled: Compile, place: Path) -> None:
    package = compiled(OLD)
    conv, x = package.Conv(), torch.randn(1, 4, 5, 5, 5)
    expected = conv(x)
    compiled(NEW, and_import=False)
    importlib.invalidate_caches()
    (place / NAME / "__pycache__").exists()
    for module in ("conv", ""):
        importlib.reload(sys.modules[f"{NAME}.{module}".rstrip(".")])
    fresh, new = compile_fresh(NEW, place / "elsewhere"), package.Conv()
    new.load_state_dict(fresh.state_dict())
    assert torch.equal(new(x), fresh(x)) and torch.equal(conv(x), expected)
    assert new.fingerprint != conv.fingerprint


def compile_fresh(text: str, place: Path) -> nn.Module:
    """The layer of a spec from a package of another name."""
    name = f"{NAME}_fresh"
    place.mkdir()
    write_package(compile_package(parse_package(text.replace(NAME, name))), place / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        conv = importlib.import_module(name).Conv()
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]
    return conv


@pytest.mark.parametrize("module", ["conv", "_steerable", "_layer", "_constants", ""])
def test_a_module_reloaded_alone_is_right_or_refuses(compiled: Compile, module: str) -> None:
    package = compiled(OLD)
    compiled(NEW, and_import=False)
    importlib.invalidate_caches()
    importlib.reload(sys.modules[f"{NAME}.{module}".rstrip(".")])
    if module == "conv":
        assert "sigma 2/5" in sys.modules[f"{NAME}.conv"].Conv().sampling
        package = importlib.reload(package)
        assert "sigma 2/5" in package.Conv().sampling
    else:
        with pytest.raises(RuntimeError, match="restart the interpreter"):
            package.Conv()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "lacks its tensors: .*package data"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "is not the file its code was compiled with"),
        (lambda path: (path.unlink(), path.mkdir()), "lacks its tensors"),
    ],
)
def test_tensors_that_are_missing_or_damaged_are_one_error(
    compiled: Compile, place: Path, change: Callable[[Path], object], message: str
) -> None:
    package = compiled(OLD)
    change(place / NAME / "basis.safetensors")
    with pytest.raises(RuntimeError, match=f"(?s){NAME}.*{message}") as error:
        package.Conv()
    assert "\n" not in str(error.value) and "compile" in str(error.value)


OTHERS = {
    "kernel size": spec(kernel_size=7),
    "scale": NEW,
    "cutoff": spec(radial='{ family = "shells", cutoff = [0, 1, 2] }'),
    "family": spec(radial='{ family = "hermite", n_max = 4 }'),
    "spacing": spec(voxel_spacing="[1, 1, 2]"),
    "dilation": spec(dilation=2),
    "order of terms": spec(into="1x1 + 1x0"),
    "parity": spec(into="1x0e + 1x1o", out="2x0e + 1x1o"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_weights_of_other_filters_do_not_load(compiled: Compile, other: str) -> None:
    theirs = nn.Sequential(nn.Identity(), compiled(OTHERS[other]).Conv()).state_dict()
    ours = nn.Sequential(nn.Identity(), compiled(OLD).Conv())
    before = copy.deepcopy(ours.state_dict())
    for options in ({}, {"strict": False}, {"assign": True}):
        with pytest.raises(RuntimeError) as error:
            ours.load_state_dict(theirs, **options)
        message = str(error.value)
        assert f"1: these weights were made for '{NAME}.Conv: " in message
        assert f"this layer is '{NAME}.Conv: " in message
        assert "size mismatch" not in message and "_extra_state" in message
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_weights_of_other_filters_load_where_they_are_asked_to(compiled: Compile) -> None:
    theirs = compiled(NEW).Conv().state_dict()
    conv = compiled(OLD).Conv()
    bare = {key: value for key, value in theirs.items() if not key.endswith("_extra_state")}
    with pytest.warns(UserWarning, match="does not say for which field types and filters"):
        assert str(conv.load_state_dict(bare)) == "<All keys matched successfully>"
    assert torch.equal(conv.weight, theirs["weight"])


@pytest.mark.parametrize(
    "same",
    [
        spec(layer="Renamed"),
        spec(execution='"dense"'),
        spec(radial='{ family = "shells", sigma = 0.6, cutoff = "compromise" }'),
        OLD + '\n[[conv]]\nname = "More"\nin = "1x2"\nout = "1x2"\nkernel_size = 5\nradial = { family = "shells" }\n',
    ],
    ids=["renamed", "run another way", "with defaults written out", "beside another layer"],
)
def test_weights_load_where_they_mean_the_same(compiled: Compile, same: str) -> None:
    theirs = compiled(same)
    conv = (theirs.Renamed if hasattr(theirs, "Renamed") else theirs.Conv)()
    ours = compiled(OLD).Conv()
    assert str(ours.load_state_dict(conv.state_dict())) == "<All keys matched successfully>"
    torch.testing.assert_close(ours.kernel(), conv.kernel())


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    from generated.tetris import Conv1

    return Conv1()


def test_states_pass_through_files_and_copies(conv: nn.Module, tmp_path: Path) -> None:
    model = nn.Sequential(conv, type(conv)())
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    for state in (load_file(tmp_path / "model.safetensors"), torch.load(buffer, weights_only=True)):
        other = nn.Sequential(type(conv)(), type(conv)())
        for assign in (False, True):
            assert str(other.load_state_dict(state, assign=assign)) == "<All keys matched successfully>"
        assert torch.equal(other[1].kernel(), model[1].kernel())


AVERAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda a, b: (a + b) / 2,
    "weighted": lambda a, b: 0.9995 * a + 0.0005 * b,
    "half": lambda a, _: a.half(),
    "bfloat16": lambda a, _: a.bfloat16(),
    "integers, truncated": lambda a, b: (0.9 * a + 0.1 * b).to(torch.int16),
    "double": lambda a, _: a.double(),
}


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_averages_of_states_load(conv: nn.Module, average: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other = conv.state_dict(), type(conv)().state_dict()
    state = {key: average(one[key], other[key]) for key in one}
    assert str(type(conv)().load_state_dict(state)) == "<All keys matched successfully>"


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=9), st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_a_state_says_survives_every_average(weights: list[float], dtype: torch.dtype) -> None:
    from generated.tetris import Conv2
    from generated.tetris._layer import _letters

    said = Conv2().get_extra_state()
    mean = sum(weight / sum(weights) * said for weight in weights).to(dtype)
    assert _letters(mean) == _letters(said) and Conv2.fingerprint in _letters(said)


def test_a_state_says_the_same_in_every_process_and_shares_no_memory(conv: nn.Module) -> None:
    from generated.tetris._layer import _letters

    said = conv.state_dict()["_extra_state"]
    assert said.data_ptr() != conv.state_dict()["_extra_state"].data_ptr()
    assert _letters(said).strip() == (
        "ba6c153068dc479b generated.tetris.Conv1: 5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5); "
        "1x0 -> 4x0 + 4x1 + 4x2 + 8x0"
    )


@pytest.mark.parametrize(
    "said",
    [
        torch.zeros(0),
        torch.zeros(256),
        torch.full((256,), torch.nan),
        torch.full((256,), 1e30),
        torch.full((3, 5), 16 * 27 + 8.0),
        torch.zeros(10**6, dtype=torch.uint8),
        torch.zeros(256, dtype=torch.complex64),
        torch.zeros(256).to_sparse(),
        "text",
        b"\x1b[2J",
        None,
        {"a": 1},
    ],
    ids=lambda said: f"{type(said).__name__} {getattr(said, 'dtype', '')}",
)
def test_a_hostile_fingerprint_is_one_printable_error(conv: nn.Module, said: object) -> None:
    with pytest.raises(RuntimeError, match="these weights were made for") as error:
        conv.load_state_dict({**conv.state_dict(), "_extra_state": said})
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and all(line.expandtabs().isprintable() for line in lines) and len(str(error.value)) < 2000


def test_a_pickled_layer_refuses_another_compile(compiled: Compile) -> None:
    conv, x = compiled(OLD).Conv(), torch.randn(1, 4, 5, 5, 5)
    whole, expected = pickle.dumps(nn.Sequential(conv)), conv(x)
    assert torch.equal(pickle.loads(whole)(x), expected)
    compiled(NEW)
    with pytest.raises(ValueError, match=r"made for 'state_case.Conv: .*compromise.* this layer is '.*sigma 2/5"):
        pickle.loads(whole)
    compiled(OLD + '\n[[conv]]\nname = "More"\nin = "1x0"\nout = "1x2"\nkernel_size = 3\n')
    torch.testing.assert_close(pickle.loads(whole)(x), expected)


def test_a_layer_pickled_by_an_older_package_loads_with_a_warning(conv: nn.Module) -> None:
    attributes = conv.__getstate__()
    del attributes["_statement"]
    attributes["_buffers"] = {"_filters": torch.zeros(3)}
    old = type(conv).__new__(type(conv))
    with pytest.warns(UserWarning, match="this pickled layer does not say"):
        old.__setstate__(attributes)
    assert not list(old.buffers()) and torch.equal(old.kernel(), conv.kernel())


def test_copies_and_partial_states_do_not_warn(conv: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(conv), copy.copy(conv), pickle.loads(pickle.dumps(conv))
        assert conv.load_state_dict({}, strict=False).missing_keys == ["weight", "bias"]
        with torch.device("meta"):
            empty = type(conv)()
        empty.load_state_dict(conv.state_dict(), assign=True)
        conv.load_state_dict({**conv.state_dict(), "_extra_state": torch.empty(256, device="meta")})


def _sharded(rank: int, folder: Path) -> None:
    """One of two processes: sharded, saved and read back in pieces, from meta; each time the map of the whole model."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from generated.tetris import Conv1, Conv2

    torch.set_num_threads(1)
    join_group(f"file://{folder}/store", "gloo", rank, 2)
    mesh, whole = init_device_mesh("cpu", (2,)), StateDictOptions(full_state_dict=True)

    def sharded(model: nn.Sequential) -> nn.Module:
        for layer in model:
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    torch.manual_seed(0)
    model = nn.Sequential(Conv1(), nn.Conv3d(44, 36, 1), Conv2())
    x, state = torch.randn(1, 1, 5, 5, 5), model.state_dict()
    expected = model(x).detach()
    first = sharded(copy.deepcopy(model))
    torch.testing.assert_close(first(x), expected)
    checkpoint.save({"model": get_model_state_dict(first)}, checkpoint_id=folder / "pieces")
    with torch.device("meta"):
        second = nn.Sequential(Conv1(), nn.Conv3d(44, 36, 1), Conv2())
    second = sharded(second).to_empty(device="cpu")
    pieces = {"model": get_model_state_dict(second)}
    checkpoint.load(pieces, checkpoint_id=folder / "pieces")
    set_model_state_dict(second, pieces["model"])
    torch.testing.assert_close(second(x), expected)
    set_model_state_dict(second, get_model_state_dict(first, options=whole), options=whole)
    torch.testing.assert_close(second(x), expected)
    with pytest.raises(RuntimeError, match=r"these weights were made for 'generated\.tetris\.Conv2"):
        set_model_state_dict(second, {**state, "0._extra_state": state["2._extra_state"]}, options=whole)
    parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    parallel.load_state_dict(parallel.state_dict())
    torch.testing.assert_close(parallel(x), expected)
    (folder / f"done {rank}").touch()
    leave_group()


@pytest.mark.slow
def test_sharded_and_parallel_models_load_and_save_states(tmp_path: Path) -> None:
    mp.spawn(_sharded, (tmp_path,), nprocs=2)
    assert len(list(tmp_path.glob("done *"))) == 2
