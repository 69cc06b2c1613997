"""The address that `calibrate` had before `runtime.train` became a package; it still works."""

from runtime.train.calibration import calibrate

__all__ = ["calibrate"]
