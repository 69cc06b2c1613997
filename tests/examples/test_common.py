"""What experiments share: presets are read whole, cases resume, results say what was not run, measures are right."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from examples.common.cases import Case, Outcome, run_cases
from examples.common.command import experiment
from examples.common.files import DataError, find_data
from examples.common.measure import accuracy, agreement, balanced_accuracy, kernels, parameter_count
from examples.common.presets import PresetError, load_preset
from examples.common.progress import counted, counting
from examples.common.results import OLDER, RESULTS, markdown, older_than_the_code, spread, text
from examples.common.study import Study, differences
from examples.common.training import Stopwatch, without_a_single_sample_left

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTCOME = Outcome(Case("steerable", "1/4", 0), 10, 20, 3, 0.5, 1.0, {"accuracy": 0.75}, 0.9, "a cpu", 1, "2.6")


@dataclass(frozen=True)
class Inner:
    size: int
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class OtherInner:
    size: int
    width: int


@dataclass(frozen=True)
class Outer:
    inner: Inner
    networks: dict[str, Inner]
    optional: Inner | None = None


def test_a_preset_is_read_into_its_dataclasses(tmp_path: Path) -> None:
    path = tmp_path / "quick.toml"
    path.write_text("[inner]\nsize = 3\nstrides = [1, 2]\n[networks.a]\nsize = 4\n[optional]\nsize = 5\n")
    assert load_preset(Outer, path) == Outer(Inner(3, (1, 2)), {"a": Inner(4)}, Inner(5))


def test_a_preset_is_based_on_another(tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text("[inner]\nsize = 3\nstrides = [1, 2]\n[networks.a]\nsize = 4\n")
    (tmp_path / "long.toml").write_text('based_on = "quick.toml"\n[inner]\nstrides = [7]\n[networks.b]\nsize = 5\n')
    assert load_preset(Outer, tmp_path / "long.toml") == Outer(Inner(3, (7,)), {"a": Inner(4), "b": Inner(5)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('based_on = "quick.toml"', "quick.toml is based on itself"),
        ('based_on = "absent.toml"', "cannot read the preset .*absent.toml"),
        ("[inner]\nsize = 3\nextra = 1\n[networks]", "quick.toml, inner: unknown key extra"),
        ("[inner]\n[networks]", "quick.toml, inner: the key size is missing"),
        ("[inner\n", "cannot read the preset"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quick.toml"
    path.write_text(text)
    with pytest.raises(PresetError, match=message):
        load_preset(Outer, path)


def test_data_are_found_by_option_then_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert find_data(None, "SOME_DATA", "a file", "somewhere") == tmp_path
    monkeypatch.delenv("SOME_DATA")
    with pytest.raises(DataError, match=r"Use --data PATH or set SOME_DATA. Source: somewhere"):
        find_data(None, "SOME_DATA", "a file", "somewhere")
    with pytest.raises(DataError, match="does not exist"):
        find_data(tmp_path / "absent", "SOME_DATA", "a file", "somewhere")


def test_finished_cases_are_read_back_and_others_run(tmp_path: Path) -> None:
    ran: list[Case] = []

    def run(case: Case, directory: Path) -> Outcome:
        ran.append(case)
        if case.seed == 1 and len(ran) < 3:
            raise KeyboardInterrupt
        return replace(OUTCOME, case=case)

    cases = [Case("steerable", "1/4", seed) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        list(run_cases(cases, run, tmp_path, resume=False))
    assert [outcome.case for outcome in run_cases(cases, run, tmp_path, resume=True)] == cases
    assert [case.seed for case in ran] == [0, 1, 1]
    assert list(run_cases(cases[:1], run, tmp_path, resume=False)) == [replace(OUTCOME, case=cases[0])]
    assert len(ran) == 4


def test_directories_of_different_cases_differ() -> None:
    cases = [Case(n, s, k) for n in ("a", "a-b") for s in ("1", "1/4", "1/16") for k in (0, 1)]
    assert len({case.directory for case in cases}) == len(cases)


def test_the_table_names_what_was_not_run_and_how_to() -> None:
    cases = [OUTCOME.case, Case("conventional", "1/4", 0)]
    page = markdown(made_study("paper"), cases, [OUTCOME], "python -m examples.t --preset paper")
    assert "| steerable | 1/4 | 10 | 20 | 0.750 | 0.900 | 1 s | 0 |" in page
    assert "not run: `python -m examples.t --preset paper --network conventional --setting 1/4`" in page
    assert "* data: made" in page
    assert "a cpu, 1 threads, torch 2.6" in page


def test_a_terminal_gets_columns_of_what_was_run() -> None:
    cases = [OUTCOME.case, Case("conventional", "1/4", 0)]
    assert text(made_study("paper"), cases, [OUTCOME]).splitlines() == [
        "Made, paper",
        "",
        "network    setting  parameters  samples  accuracy  same answer when turned  training  seeds",
        "---------  -------  ----------  -------  --------  -----------------------  --------  -----",
        "steerable  1/4              10       20     0.750                    0.900       1 s      0",
        "1 more can be run; results.md has the commands.",
    ]


def test_a_long_test_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr("examples.common.progress.time.monotonic", lambda: now[0])
    with caplog.at_level("INFO", "runtime.train"), counting("steerable"):
        for _ in range(7):
            counted(100)
            now[0] += 10
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "testing steerable",
        "testing steerable: 400 samples so far",
        "testing steerable: 700 samples so far",
    ]


def test_results_of_other_filters_are_named_as_older_than_the_code(
    compile_and_import: Callable[[str], ModuleType],
) -> None:
    layer = '[[conv]]\nname = "{}"\nin = "1x0"\nout = "2x0"\nkernel_size = 3\nradial = {{ family = "hermite", {} }}\n'
    scales = {"A": "scale = 0.7", "B": "scale = 0.71"}
    package = compile_and_import('name = "two_scales"\n' + "".join(layer.format(*item) for item in scales.items()))
    a, b = kernels(package.A()), kernels(package.B())
    assert len(a) == 2 and a == kernels(nn.Sequential(package.A(), nn.ReLU())) and a != b
    study = replace(made_study("quick"), build=lambda _: package.A())
    assert older_than_the_code(study, [replace(OUTCOME, kernels=a)] * 2) == []
    for other in (b, None, [], [*a, *a], [a[0], -a[1]]):
        outcomes = [replace(OUTCOME, kernels=a), replace(OUTCOME, kernels=other)]
        assert older_than_the_code(study, outcomes) == ["steerable"]
        assert f"{OLDER}steerable; made with other filters" in markdown(study, [OUTCOME.case], outcomes, "command")
    plain = replace(study, build=lambda _: nn.Linear(2, 3))
    assert older_than_the_code(plain, [replace(OUTCOME, kernels=None)]) == []


def test_spread_is_mean_and_standard_deviation() -> None:
    assert spread([0.5]) == "0.500"
    assert spread([0.4, 0.6]) == "0.500 +- 0.141"


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    labels, answers = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0])
    assert accuracy(answers, labels) == 0.75
    assert balanced_accuracy(answers, labels) == 0.5


def test_agreement_counts_the_answers_that_stay() -> None:
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    points = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    rotations = torch.stack([torch.eye(3), turn])

    def turned(rotation: torch.Tensor) -> list[torch.Tensor]:
        return [points @ rotation.mT]

    # as they are all three stay; a quarter turn about z, x to y and y to -x, leaves only the third its largest part
    assert agreement(nn.Identity(), turned, rotations) == pytest.approx((3 + 1) / 6)
    length = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))
    with torch.no_grad():
        length[1].weight.zero_()
    assert agreement(length, turned, rotations) == 1.0


def test_the_time_of_an_interrupted_training_adds_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Stopwatch(tmp_path / "seconds.txt") as first:
        raise KeyboardInterrupt
    with Stopwatch(tmp_path / "seconds.txt") as second:
        pass
    assert second.seconds > first.seconds > 0


def test_an_empty_batch_gives_an_empty_batch() -> None:
    lengths = [len(without_a_single_sample_left(list(range(count)), 4)) for count in (1, 3, 4, 5, 6, 9)]
    assert lengths == [1, 3, 4, 4, 6, 8]


@pytest.mark.parametrize("readme", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_every_result_in_a_readme_is_in_the_file_the_command_wrote(readme: Path) -> None:
    pages = sorted(readme.parent.glob("results/*/results.md"))
    if not pages:
        pytest.skip(f"{readme.parent.name} keeps its results elsewhere")
    section = readme.read_text("utf-8").partition("## Results")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 2
    written = {line for page in pages for line in page.read_text("utf-8").splitlines()}
    assert [row for row in rows if row not in written] == []
    if not (readme.parent / "experiment.py").exists():
        return  # it trains nothing, so its rows are no networks
    finished = 0  # rows
    for page in pages:
        outcomes = json.loads(page.with_suffix(".json").read_text("utf-8"))["outcomes"]
        finished += len({tuple(o["case"].items())[:2] for o in outcomes})
    assert sum("not run" not in row for row in rows) - 2 * len(pages) == finished


@pytest.mark.parametrize(
    "results",
    sorted(path for path in EXAMPLES.glob("*/results/*/results.json") if (path.parents[2] / "experiment.py").exists()),
    ids=lambda path: f"{path.parts[-4]}-{path.parts[-2]}",
)
def test_committed_results_are_those_of_the_networks_that_are_built_now(results: Path) -> None:
    name, committed = results.parts[-4], json.loads(results.read_text("utf-8"))
    command = rf"python -m examples\.{name} --preset (\w+)(?: --data (\S+))?(?: --out \S+)?(?: --seeds \d+)?"
    preset, data = re.fullmatch(command, committed["command"]).groups()
    if data is not None:  # another file than the usual one lies beside it
        usual = importlib.import_module(f"examples.{name.removesuffix('_sphere')}.data").VARIABLE
        data = Path(os.environ.get(usual, "absent")).with_name(data)
    try:
        study = importlib.import_module(f"examples.{name}.experiment").prepare(preset, data)
    except DataError as error:
        pytest.skip(str(error))
    study = replace(study, build=cache(study.build))
    now = study.record()
    assert {key: committed[key] for key in now} == now
    for network in study.networks:
        counts = {o["parameters"] for o in committed["outcomes"] if o["case"]["network"] == network}
        trained = parameter_count(study.build(network))  # 0: a classical estimate
        assert not trained or counts <= {trained}
    outcomes = [Outcome(**{**o, "case": Case(**o["case"])}) for o in committed["outcomes"]]
    older = older_than_the_code(study, outcomes)
    page = results.with_suffix(".md").read_text("utf-8")
    named = page.partition(OLDER)[2].partition(";")[0]
    assert (named.split(", ") if named else []) == older
    seeds = max(outcome.case.seed for outcome in outcomes) + 1
    assert (f"--seeds {seeds}" in committed["command"]) == (seeds > 1) and f"    {committed['command']}\n" in page


def made_study(preset: str, data: object = "made") -> Study:
    """Of one network and one setting, of which nothing can be run."""
    sizes = {"quick": 3, "paper": 4}

    def run(case: Case, directory: Path) -> Outcome:
        raise NotImplementedError

    facts = {"data": str(data), "steerable": "a linear map"}
    return Study(
        f"Made, {preset}", facts, Inner(sizes[preset]), ("steerable",), ("1/4",), lambda _: nn.Linear(2, 3), run
    )


@pytest.fixture
def made_command() -> click.Command:
    """An experiment of two networks that runs in no time; the data path 'none' is refused."""

    def prepare(preset: str, data: Path | None) -> Study:
        if data == Path("none"):
            raise DataError("there are no data. Source: nowhere")
        networks, settings = ("steerable", "conventional"), ("1", "1/4")

        def run(case: Case, directory: Path) -> Outcome:
            assert directory.is_dir()
            return replace(OUTCOME, case=case)

        return replace(made_study(preset, data or "made"), networks=networks, settings=settings, run=run)

    return experiment("made", "Made.", prepare)


def test_the_command_runs_the_chosen_cases_and_lists_the_others(made_command: click.Command, tmp_path: Path) -> None:
    chosen = ["--network", "steerable", "--out", str(tmp_path)]
    result = CliRunner().invoke(made_command, chosen)
    assert result.exit_code == 0, result.output
    assert "steerable, 1/4, seed 0: accuracy 0.750, turned 0.900" in result.output
    place = tmp_path / "quick"
    assert result.output.splitlines()[-2:] == [f"page:     {place}/results.md", f"pictures: {place}/results.png"]
    assert "|" not in result.output, "a table for people"
    page = (tmp_path / "quick" / "results.md").read_text()
    assert page.count(f"not run: `python -m examples.made --preset quick --out {tmp_path} --network conventional") == 2
    assert len(json.loads((tmp_path / "quick" / "results.json").read_text())["outcomes"]) == 2
    assert (tmp_path / "quick" / "results.png").stat().st_size > 1000
    CliRunner().invoke(made_command, ["--network", "conventional", "--seeds", "2", "--out", str(tmp_path)])
    outcomes = json.loads((tmp_path / "quick" / "results.json").read_text())["outcomes"]
    assert len(outcomes) == 2 + 4  # those of the first run are kept


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_a_case_is_tested_keeps_what_is_finished(
    made_command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run = run_cases

    def stopped(cases: list[Case], *arguments: object, **options: object) -> Iterator[Outcome]:
        yield from run(cases[:1], *arguments, **options)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("examples.common.command.run_cases", stopped)
    before = signal.getsignal(number)
    result = CliRunner().invoke(made_command, ["--out", str(tmp_path)])
    assert result.exit_code == 128 + number and signal.getsignal(number) is before
    assert f"stopped by {number.name}" in result.stderr
    assert "To go on, run the same command with --resume" in result.stderr
    monkeypatch.undo()
    result = CliRunner().invoke(made_command, ["--out", str(tmp_path), "--resume"])
    assert result.exit_code == 0 and len(json.loads((tmp_path / "quick" / RESULTS).read_text())["outcomes"]) == 4


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_results_of_another_study_are_not_mixed_in(
    made_command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: list[str]
) -> None:
    out = ["--out", str(tmp_path), *resume]
    assert CliRunner().invoke(made_command, out).exit_code == 0
    before = (tmp_path / "quick" / RESULTS).read_bytes()
    other = CliRunner().invoke(made_command, [*out, "--data", "other.npz"])
    assert other.exit_code == 2
    assert "quick holds results of another study: the data were made" in " ".join(other.output.split())
    monkeypatch.setattr(f"{__name__}.Inner", lambda size: OtherInner(size, width=5))
    other = CliRunner().invoke(made_command, out)
    assert other.exit_code == 2
    assert "another study: width was not set, is 5. Give --out" in " ".join(other.output.split())
    assert (tmp_path / "quick" / RESULTS).read_bytes() == before
    monkeypatch.undo()
    assert CliRunner().invoke(made_command, out).exit_code == 0


def test_studies_differ_in_their_numbers_not_in_their_descriptions() -> None:
    network = {"description": "first", "width": 3}
    record = {"facts": {"data": "a"}, "preset": {"training": {"epochs": 5}, "networks": {"a": network, "b": network}}}
    others = {"a": {"description": "second", "width": 3}, "c": {"width": 4}}
    assert differences(record, {**record, "preset": {**record["preset"], "networks": others}}) == []
    wider = {**record, "preset": {**record["preset"], "networks": {"a": {"width": 5}}}}
    assert differences(record, wider) == ["networks.a.width was 3, is 5"]
    longer = {**record, "preset": {**record["preset"], "training": {"epochs": 20}}}
    assert differences(record, longer) == ["training.epochs was 5, is 20"]
    assert differences(record, {**record, "facts": {"data": "b"}}) == ["the data were a"]


def test_an_option_added_later_changes_no_record() -> None:
    assert made_study("quick").record()["preset"] == {"size": 3}
    assert replace(made_study("quick"), preset=Inner(3, (1, 2))).record()["preset"] == {"size": 3, "strides": [1, 2]}


def test_the_command_in_the_results_names_the_data_it_was_given(made_command: click.Command, tmp_path: Path) -> None:
    CliRunner().invoke(made_command, ["--network", "steerable", "--out", str(tmp_path), "--data", "some/other.npz"])
    page = (tmp_path / "quick" / "results.md").read_text()
    command = f"python -m examples.made --preset quick --data other.npz --out {tmp_path}"
    assert f"not run: `{command} --network conventional" in page


def test_the_plan_counts_parameters_and_runs_nothing(made_command: click.Command, tmp_path: Path) -> None:
    result = CliRunner().invoke(made_command, ["--preset", "paper", "--plan", "--out", str(tmp_path)])
    assert "* steerable: 9 parameters" in result.output
    assert result.output.count("not run: `python -m examples.made --preset paper") == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "other"], "--network other: there is no such name. Choose from steerable, conventional."),
        (["--setting", "1/3"], "--setting 1/3: there is no such name"),
        (["--data", "none"], "there are no data. Source: nowhere"),
    ],
)
def test_mistakes_of_the_caller_are_one_message(made_command: click.Command, options: list[str], message: str) -> None:
    result = CliRunner().invoke(made_command, options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
