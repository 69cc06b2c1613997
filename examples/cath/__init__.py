"""Classes of protein folds from C-alpha positions, as the training data shrink (Weiler et al. 2018)."""
