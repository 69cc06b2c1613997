"""Source text of the modules of generated packages; imported by nothing."""
