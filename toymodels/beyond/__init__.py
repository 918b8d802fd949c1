"""Where the diagonal network's predictions hold beyond it, and where they break."""
