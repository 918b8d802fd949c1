"""``python -m proofs_check``."""

from proofs_check.cli import main
from sambalance_tools.command_line import run_command

if __name__ == "__main__":
    run_command(main)
