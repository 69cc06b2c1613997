"""Recognise the eight Tetris shapes in any orientation after seeing one (Weiler et al. 2018, section 5.1)."""
