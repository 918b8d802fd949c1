"""One training: exactly resumable, the same bits on the same device."""
