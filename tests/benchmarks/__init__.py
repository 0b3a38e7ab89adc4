"""What the README claims, measured: `python -m tests.benchmarks`."""
