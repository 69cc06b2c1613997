"""From proven, sampled layers to the files of a package: plan, render, write."""
