"""Options that several commands share. Nothing here imports more than argparse."""
