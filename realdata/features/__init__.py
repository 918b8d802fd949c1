"""Heads on features of real images, beside the toy with their measured strengths."""
