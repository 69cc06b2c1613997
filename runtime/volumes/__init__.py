"""What acts on volumes alone: convolutional blocks, resampling, rotation."""
