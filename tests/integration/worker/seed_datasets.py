"""Fills a datasets cache as a download of allenai/sciq would, without a network. Imports nothing of Quantry.

``python seed_datasets.py <rows>`` writes that many questions for each split below HF_HOME.
"""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
from datasets.arrow_writer import ArrowWriter

COMMIT = "2c94ad3e1aafab77146f384e23536f97a4849815"
PARTS = ("question", "distractor3", "distractor1", "distractor2", "correct_answer", "support")


def main(num_rows: int) -> None:
    features = datasets.Features({name: datasets.Value("string") for name in PARTS})
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "allenai___sciq" / "default" / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    splits = datasets.SplitDict(dataset_name="sciq")
    for split in ("train", "validation", "test"):
        with ArrowWriter(features=features, path=str(folder / f"sciq-{split}.arrow")) as writer:
            for index in range(num_rows):
                writer.write({name: f"{name} of {split} number {index}" for name in PARTS})
            num_examples, num_bytes = writer.finalize()
        splits.add(datasets.SplitInfo(split, num_bytes=num_bytes, num_examples=num_examples, dataset_name="sciq"))
    info = datasets.DatasetInfo(
        features=features, splits=splits, builder_name="parquet", dataset_name="sciq", config_name="default", version="0.0.0"
    )
    info.write_to_directory(str(folder))


if __name__ == "__main__":
    main(int(sys.argv[1]))
