"""What generated packages of every kind of layer share: source files copied as they are, below a line that says so."""
