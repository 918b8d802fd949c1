"""Train with SGD and SAM on real images, probe what was learned, and test the predictions of the theory."""
