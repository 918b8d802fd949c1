"""What a training or a sweep is told, by flags or by a file."""
