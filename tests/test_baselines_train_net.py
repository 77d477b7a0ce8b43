"""CAT-Seg and SED through the program: training, a checkpoint, and the releases' evaluation."""

import json
from pathlib import Path

import pytest
import torch
import yaml

REPO = Path(__file__).resolve().parents[1]
NAME = "baseline_test"


@pytest.fixture(scope="module")
def folder(prepared_folder, tmp_path_factory):
    root = prepared_folder(tmp_path_factory.mktemp("photos"), NAME, train=2, val=2)
    (root / "classes.json").write_text('["sky, heaven", "grass", "dog"]')
    return root


def own_head(method, folder):
    """Sizes of the tiny model in a file of the release's kind."""
    tiny = yaml.safe_load((REPO / f"configs/{method}/{method}_tiny.yaml").read_text())
    base = yaml.safe_load((REPO / f"configs/_base_/{method}.yaml").read_text())
    lists = {"TRAIN_CLASS_JSON": "datasets/coco.json", "TEST_CLASS_JSON": "datasets/coco.json"}
    head = {**base["MODEL"]["SEM_SEG_HEAD"], **tiny["MODEL"]["SEM_SEG_HEAD"], **lists}
    model = {**base["MODEL"], **tiny["MODEL"], "SEM_SEG_HEAD": head, "CLIP": {"WEIGHTS": "random"}}
    content = {"MODEL": model, "SOLVER": {"OPTIMIZER": "ADAMW", "BACKBONE_MULTIPLIER": 0.0}}
    content["INPUT"] = {"MIN_SIZE_TEST": 48, "DATASET_MAPPER_NAME": "mask_former_semantic"}
    path = folder / f"{method}_release.yaml"
    path.write_text(yaml.safe_dump({**content, "DATALOADER": {"NUM_WORKERS": 0}, "VERSION": 2}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cat_seg", "sed"])
def test_train_export_and_evaluate_in_the_words_of_the_release(
    method, folder, tmp_path, run_program
):
    def run(*arguments):
        done = run_program(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    data = ("DATASETS.FOLDERS", f"('{folder}',)")
    run(
        "train_net.py", "--config-file", f"{method}_tiny", *data,
        "DATASETS.TRAIN", f"('{NAME}_train',)", "DATASETS.TEST", "()",
        "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2, "OUTPUT_DIR", tmp_path / "run",
    )  # fmt: skip
    exported = tmp_path / "model.pth"
    trained = tmp_path / "run/model_final.pth"
    run("tools/export_checkpoint.py", "--to", "release", trained, exported)
    assert set(torch.load(exported, weights_only=True)) == {"model"}
    # As eval.sh writes it, "--config" and all.
    output = run(
        "train_net.py", "--config", own_head(method, tmp_path),
        "--num-gpus", 1, "--dist-url", "auto", "--eval-only", *data,
        "OUTPUT_DIR", tmp_path / "eval",
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", folder / "classes.json",
        "DATASETS.TEST", f'("{NAME}_val",)',
        "TEST.SLIDING_WINDOW", "True",
        "TEST.WINDOW_SIZE", 96, "TEST.WINDOW_IMAGE_SIZE", "(160, 160)",
        "MODEL.SEM_SEG_HEAD.POOLING_SIZES", "[1,1]",
        "MODEL.WEIGHTS", exported,
    )  # fmt: skip
    # What Detectron2's checkpointer says of missing and unexpected names.
    assert "not found in the checkpoint" not in output
    assert "not used by the model" not in output
    results = json.loads((tmp_path / f"eval/inference/{NAME}_val/results.json").read_text())
    assert results["num_images"] == 2
    assert 0 <= results["mIoU"] <= 100
