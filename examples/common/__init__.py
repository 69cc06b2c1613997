"""What the experiments share: presets, data files, compiled packages, cases run one by one, measures, results."""
