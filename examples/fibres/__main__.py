"""`python -m examples.fibres --preset quick`: train, test, and write the results and the picture."""

from examples.common.command import experiment
from examples.fibres.experiment import prepare

main = experiment("fibres", "The orientation of fibres at every voxel of a noisy volume.", prepare)

if __name__ == "__main__":
    main()
