"""`python -m examples.qm7 --preset full --seeds 5`: train and test on the five folds, and write the results."""

from examples.common.command import experiment
from examples.qm7.experiment import prepare

main = experiment(
    "qm7",
    "Atomisation energies of molecules from signals about their atoms: five official folds, `--seeds 5`.",
    prepare,
    presets=("quick", "full", "published", "tiny", "tiny_published"),
)

if __name__ == "__main__":
    main()
