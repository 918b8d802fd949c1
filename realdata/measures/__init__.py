"""What a checkpoint has learned: probing errors, accuracies of groups, example weights, the toy's quantities."""
