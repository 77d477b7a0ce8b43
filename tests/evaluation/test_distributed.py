"""Two processes over gloo against one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from detectron2.data import MetadataCatalog
from PIL import Image

from escnet_d2.engine.launch import close_process_group
from escnet_d2.evaluation import SemSegEvaluator

DATASET = "evaluator_test_gloo"
NUM_IMAGES = 5
NAMES = [f"class {index}" for index in range(6)]


def evaluate(folder, output_dir, indices):
    """Results on some of the images in ``folder``, with predictions that depend on the image."""
    MetadataCatalog.get(DATASET).set(stuff_classes=NAMES, ignore_label=255)
    evaluator = SemSegEvaluator(DATASET, output_dir=output_dir, seen_classes=NAMES[:2])
    for index in indices:
        image = {
            "file_name": f"image{index}.jpg",
            "sem_seg_file_name": str(folder / f"image{index}.png"),
        }
        labels = np.random.default_rng(index).integers(0, 6, (20, 30))
        evaluator.process([image], [{"label_map": torch.from_numpy(labels)}])
    return evaluator.evaluate()


def run_rank(rank, folder):
    """One of two processes: a right evaluation, then one whose sampler padded rank 1's share."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    # Contiguous shares, as Detectron2's InferenceSampler deals them.
    share = [[0, 1, 2], [3, 4]][rank]
    results = evaluate(folder, folder / "two", share)
    assert (results is None) == (rank == 1)
    # Both have to raise: one alone would leave the other waiting.
    with pytest.raises(RuntimeError, match=r"image0\.jpg: evaluate with a sampler that does not"):
        evaluate(folder, folder / "padded", [share, [*share, 0]][rank])
    assert not (folder / "padded").exists()
    close_process_group()
    # One that lives on aborts the process now and then, as the interpreter ends.
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert not [name for name in threads if "gloo" in name]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    for index in range(NUM_IMAGES):
        target = np.random.default_rng(100 + index).integers(0, 5, (20, 30))
        target[:3] = 255
        Image.fromarray(target.astype(np.uint8)).save(tmp_path / f"image{index}.png")
    torch.multiprocessing.spawn(run_rank, (tmp_path,), nprocs=2)
    scores = evaluate(tmp_path, tmp_path / "one", range(NUM_IMAGES))["sem_seg"]
    assert scores["num_images"] == NUM_IMAGES
    stored = torch.load(tmp_path / "two" / "sem_seg_evaluation.pth", weights_only=True)
    assert {name: stored[name] for name in scores} == scores
    one, two = (
        {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".pth"}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert "results.json" in one
    assert one == two
