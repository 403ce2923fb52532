"""The model and the parallel texts that ship with the package."""
