"""`python -m examples.tetris --preset quick`: train, test, and write the results and the picture."""

from examples.common.command import experiment
from examples.tetris.experiment import prepare

main = experiment(
    "tetris", "The Tetris shapes in any orientation, after training on one.", prepare, ("quick", "sphere", "paper")
)

if __name__ == "__main__":
    main()
