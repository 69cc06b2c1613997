"""What a generated package holds besides its layers: source files copied as they are, and templates."""
