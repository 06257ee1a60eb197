"""Writes the invented shop for benchmarks: ``python -m tools.make_shop FOLDER --people 14500 --days 365``.

One file a source with a body for the batch call in each line, the truth, and the files of other systems. The last day is given
(``--end 2026-10-01T00:00:00Z``), so the same arguments give the same bytes. 14,500 people in a year are a million events.
"""

import argparse
import gc
import time
from pathlib import Path

from conosco.cli.shop.files import CRM, write_files
from conosco.cli.shop.messages import Message
from conosco.cli.shop.past import Past, Plan, batches
from conosco.cli.shop.truth import write_truth
from conosco.model.moment import parse_moment


def make(folder: Path, plan: Plan) -> tuple[int, float]:
    """Write all files into the folder; how many messages there are, and the seconds of processor time that making them took."""
    folder.mkdir(parents=True, exist_ok=True)
    past = Past(plan)
    # A million messages are no garbage, and looking through them again and again would take a fifth of the time.
    gc.disable()
    try:
        begun = time.process_time()
        messages: list[Message] = list(past.messages())
        took = time.process_time() - begun
    finally:
        gc.enable()
    files = {source: (folder / f"{source}.jsonl").open("wb") for source in sorted({message.source for message in messages})}
    try:
        for source, body, _ in batches(messages):
            files[source].write(body + b"\n")
    finally:
        for file in files.values():
            file.close()
    whose = write_files(folder, past.shop.people, messages, plan.seed)
    write_truth(folder / "truth.jsonl", messages, past.truth, past.shop.people, {CRM: whose})
    return len(messages), took


def main() -> None:
    """Read the arguments, write the files, and say how fast it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=14_500)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--end", default="2026-10-01T00:00:00Z")
    options = parser.parse_args()
    end = parse_moment(options.end)
    if end is None or options.people < 1 or options.days < 1:
        parser.error("--end must be a time as 2026-10-01T00:00:00Z, --people and --days at least 1")
    count, took = make(options.folder, Plan(end=end, seed=options.seed, people=options.people, days=options.days))
    print(f"{count:,} messages, {count / took:,.0f} a second of processor time, in {options.folder}")


if __name__ == "__main__":
    main()
