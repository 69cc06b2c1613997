"""`python -m examples.cath --preset quick`: train, test, and write the results."""

from examples.cath.experiment import prepare
from examples.common.command import experiment

main = experiment(
    "cath",
    "Classes of protein folds from C-alpha positions, as the training data shrink.",
    prepare,
    presets=("quick", "fine", "fixed", "medium", "long", "sphere", "separable", "paper"),
)

if __name__ == "__main__":
    main()
