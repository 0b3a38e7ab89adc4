"""Measure what the README's table of results says.

    python -m tests.benchmarks                    everything (about an hour on one thread)
    python -m tests.benchmarks budget speed       some of it
    python -m tests.benchmarks --write-readme     put the last measurements into the README

Every measurement is kept in `results.json` beside this file, with the command that makes it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from tests.benchmarks import (
    atkpdm,
    classifier_free_guidance,
    classifier_guidance,
    controlnet,
    ddpm,
    flow_matching,
    latent_diffusion,
    memory,
    qr_codes,
    scenery,
    sdedit,
)

# A measurement's name finds the function that makes its rows; a module for each lesson.
MEASURES = {
    **ddpm.MEASURES,
    **latent_diffusion.MEASURES,
    **classifier_guidance.MEASURES,
    **classifier_free_guidance.MEASURES,
    **flow_matching.MEASURES,
    **controlnet.MEASURES,
    **qr_codes.MEASURES,
    **memory.MEASURES,
    **sdedit.MEASURES,
    **atkpdm.MEASURES,
    **scenery.MEASURES,
}

RESULTS = Path(__file__).with_name("results.json")
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table(results: dict[str, list[dict[str, str]]]) -> str:
    """The measurements as a Markdown table."""
    lines = ["| what | measured | aim | command |", "|---|---|---|---|"]
    for name, rows in results.items():
        command = f"`python -m tests.benchmarks {name}`"
        lines += [f"| {r['what']} | {r['measured']} | {r['aim']} | {command} |" for r in rows]
    return "\n".join(lines)


def write_readme(results: dict[str, list[dict[str, str]]]) -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"{README.name} has lost its marks {BEGIN} and {END}.")
    content = f"{before}{BEGIN}\n{table(results)}\n{END}{after}"
    README.write_text(content, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"from: {', '.join(MEASURES)} [all]")
    parser.add_argument("--write-readme", action="store_true")
    chosen = parser.parse_args()
    if unknown := [n for n in chosen.names if n not in MEASURES]:
        parser.error(f"no measurement is named {unknown[0]}; there are {', '.join(MEASURES)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    torch.set_num_threads(1)
    names = chosen.names or ([] if chosen.write_readme else list(MEASURES))
    for name in names:
        start = time.process_time()
        results[name] = [row._asdict() for row in MEASURES[name]()]
        print(f"{name}: {time.process_time() - start:.0f} CPU seconds", file=sys.stderr)
        ordered = {n: results[n] for n in MEASURES if n in results}
        RESULTS.write_text(
            json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
    print(table(results))
    if chosen.write_readme:
        write_readme(results)


main()
