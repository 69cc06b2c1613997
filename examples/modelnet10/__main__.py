"""`python -m examples.modelnet10 --preset quick`: train, test, and write the results."""

from examples.common.command import experiment
from examples.modelnet10.experiment import prepare

main = experiment("modelnet10", "Shapes in any orientation, recognised and retrieved.", prepare)

if __name__ == "__main__":
    main()
