"""What verification asks of convolutions."""
