"""The address that `calibrate` had before `runtime.train` became a package; it still works."""

from .train.calibration import calibrate

__all__ = ["calibrate"]
