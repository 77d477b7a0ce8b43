"""The trainer around a stand-in model with dropout, so that every random state matters."""

import json
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn import functional as F

from escnet_d2.config import METHODS, Method
from escnet_d2.data import register_prepared_folder
from escnet_d2.engine import Trainer, check_config, load_config
from escnet_d2.engine.evaluation_run import training_classes
from escnet_d2.engine.launch import close_process_group
from escnet_d2.engine.trainer import distributed

CLASSES = ["sky", "grass, lawn", "dog"]
TRAIN, VAL = "trainer_test_train", "trainer_test_val"

METHODS["NoisySegmentor"] = Method()


@META_ARCH_REGISTRY.register()
class NoisySegmentor(nn.Module):
    """Two convolutions with dropout and noise between them, under names of the real model."""

    def __init__(self, cfg):
        super().__init__()
        self.clip = nn.ModuleDict({"model": nn.ModuleDict({"visual": nn.Conv2d(3, 8, 3)})})
        self.sem_seg_head = nn.Conv2d(8, len(CLASSES), 1)
        self.dropout = nn.Dropout2d()

    def forward(self, batch):
        images = [x["image"].float().unsqueeze(0) / 255 for x in batch]
        if not self.training:
            return [
                {"sem_seg": F.interpolate(self._logits(i).softmax(1), (x["height"], x["width"]))[0]}
                for i, x in zip(images, batch)
            ]
        noise = np.random.normal(scale=0.1) + random.gauss(0, 0.1)  # noqa: NPY002
        logits = self._logits(torch.cat(images)) + noise * torch.arange(3).view(3, 1, 1)
        target = torch.stack([x["sem_seg"] for x in batch])
        logits = F.interpolate(logits, target.shape[1:])
        return {"loss_sem_seg": F.cross_entropy(logits, target, ignore_index=255)}

    def _logits(self, images):
        return self.sem_seg_head(self.dropout(self.clip["model"]["visual"](images).relu()))


@pytest.fixture(scope="module", autouse=True)
def datasets(prepared_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    register_prepared_folder(prepared_folder(folder, "trainer_test", train=5, val=5))
    yield
    for name in (TRAIN, VAL):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def config(output, *opts):
    return load_config(
        "escnet_tiny",
        [
            "MODEL.META_ARCHITECTURE", "NoisySegmentor",
            "DATASETS.TRAIN", f"('{TRAIN}',)",
            "DATASETS.TEST", f"('{VAL}',)",
            "INPUT.MIN_SIZE_TRAIN", "(24, 28)",
            "INPUT.CROP.SIZE", "(20, 20)",
            "INPUT.MIN_SIZE_TEST", "24",
            "SOLVER.IMS_PER_BATCH", "2",
            "SOLVER.MAX_ITER", "6",
            "SOLVER.CHECKPOINT_PERIOD", "3",
            "SOLVER.WARMUP_ITERS", "2",
            "OUTPUT_DIR", str(output),
            *opts,
        ],
    )  # fmt: skip


def run(cfg, *, resume=False, seed=5):
    """Trains as train_net.py does; ``seed`` is what default_setup would set."""
    check_config(cfg, world_size=1, eval_only=False)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def metrics(output):
    """Values by name and iteration."""
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return {line.pop("iteration"): line for line in lines}


def assert_equal(left, right, path=""):
    """Nested containers of tensors and numbers, bit for bit."""
    if torch.is_tensor(left):
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), path
        for index, (a, b) in enumerate(zip(left, right)):
            assert_equal(a, b, f"{path}/{index}")
    else:
        assert left == right, path


def checkpoint(output, name="model_final"):
    return torch.load(output / f"{name}.pth", weights_only=True)


@pytest.mark.parametrize(
    "opts",
    [
        (),
        ("SEED", "-1", "SOLVER.GRAD_ACCUM_STEPS", "2"),
        ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16"),
        ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"),
    ],
    ids=["float32", "random seed, accumulation", "float16", "bfloat16"],
)
def test_resumed_equals_uninterrupted(tmp_path, opts):
    whole = run(config(tmp_path / "whole", *opts))
    # The interrupted run: its files up to iteration 3, in a process with other random states.
    (tmp_path / "resumed").mkdir()
    (tmp_path / "resumed" / "last_checkpoint").write_text("model_0000002.pth")
    part = tmp_path / "whole" / "model_0000002.pth"
    (tmp_path / "resumed" / part.name).write_bytes(part.read_bytes())
    resumed = run(config(tmp_path / "resumed", *opts), resume=True, seed=77)

    assert resumed.start_iter == 3
    assert_equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "resumed"))
    loss = [t.storage.history("total_loss").values()[-3:] for t in (whole, resumed)]
    assert loss[0] == loss[1]
    assert whole._last_eval_results == resumed._last_eval_results


def test_interrupted_by_an_error_and_resumed(tmp_path, monkeypatch):
    run(config(tmp_path / "whole"))
    broken, step = config(tmp_path / "broken"), Trainer.run_step

    def fail_at_4(trainer):
        if trainer.iter == 4:
            raise KeyError("power cut")
        step(trainer)

    monkeypatch.setattr(Trainer, "run_step", fail_at_4)
    with pytest.raises(KeyError, match="power cut"):
        run(broken)
    monkeypatch.undo()
    run(broken, resume=True, seed=77)
    assert_equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken"))


def test_evaluation_does_not_change_training(tmp_path):
    run(config(tmp_path / "rare", "DATASETS.TEST", "()"))
    often = run(config(tmp_path / "often", "TEST.EVAL_PERIOD", "4"))
    files = [checkpoint(tmp_path / name) for name in ("rare", "often")]
    # That is what differs.
    assert [file.pop("config")["TEST"]["EVAL_PERIOD"] for file in files][1] == 4
    assert_equal(*files)
    with_scores = [i for i, m in metrics(tmp_path / "often").items() if "sem_seg/mIoU" in m]
    assert with_scores == [3, 6]  # After four iterations and at the end.
    assert often.model.training
    assert not (tmp_path / "rare" / "inference").exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_evaluation_on_two_data_sets_in_half_precision(tmp_path, dtype):
    cfg = config(tmp_path, "TEST.DTYPE", dtype, "DATASETS.TEST", f"('{TRAIN}', '{VAL}')")
    seen = []
    model = Trainer.build_model(cfg)
    model.sem_seg_head.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    results = Trainer.test(cfg, model)
    assert set(seen) == {getattr(torch, dtype)}
    summary = json.loads((tmp_path / "inference/summary.json").read_text())
    assert list(results) == list(summary) == [TRAIN, VAL]
    assert all(results[name]["sem_seg"]["mIoU"] == summary[name]["mIoU"] for name in summary)


def test_resume_without_a_checkpoint_starts_from_scratch_and_says_so(tmp_path, caplog):
    trainer = Trainer(config(tmp_path))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0
    assert f"No checkpoint in {tmp_path} to resume from: starting from scratch" in caplog.text


def test_weights_are_loaded_without_resuming(tmp_path):
    run(config(tmp_path / "first"))
    cfg = config(tmp_path / "second", "MODEL.WEIGHTS", str(tmp_path / "first/model_final.pth"))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0
    assert_equal(dict(trainer.model.state_dict()), dict(checkpoint(tmp_path / "first")["model"]))
    assert trainer.optimizer.state_dict()["state"] == {}


def test_a_finished_run_stays_as_it_is_or_is_prolonged(tmp_path):
    run(config(tmp_path))
    before = checkpoint(tmp_path)
    trainer = run(config(tmp_path), resume=True)
    assert trainer.start_iter == 6
    assert_equal(before["model"], dict(trainer.model.state_dict()))
    run(config(tmp_path, "SOLVER.MAX_ITER", "8"), resume=True)
    assert checkpoint(tmp_path)["iteration"] == 7


def test_the_rate_that_is_logged_is_that_of_the_new_weights(tmp_path):
    opts = ("SOLVER.BASE_LR", "0.1", "SOLVER.CLIP_MULTIPLIER", "0.01", "DATASETS.TEST", "()")
    trainer = Trainer(config(tmp_path, *opts, "SOLVER.MAX_ITER", "20"))
    clip, new = (
        next(group for group in trainer.optimizer.param_groups if group["name"] == name)
        for name in ("clip weight", "new weight")
    )
    # As in the models of full size, where most tensors are CLIP's and SAM's.
    clip["params"].extend(nn.Parameter(torch.zeros(1)) for _ in range(5))
    logged = []
    put_scalar = EventStorage.put_scalar

    def record(storage, name, value, *args, **options):
        if name == "lr":
            logged.append((value, new["lr"]))
        return put_scalar(storage, name, value, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventStorage, "put_scalar", record)
        trainer.train()
    assert len(logged) == 20
    assert all(value == rate for value, rate in logged)
    assert clip["initial_lr"] == pytest.approx(0.01 * new["initial_lr"])


def share_buffers(rank, folder):
    """One of two processes with seeds of their own, and buffers that no checkpoint brings."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.manual_seed(rank)
    model = nn.Linear(2, 2)
    model.register_buffer("random", torch.randn(2, 3))
    model.register_buffer("strided", torch.randn(2, 3).t())
    before = model.random.clone()
    state = {"before": before, **distributed(model).module.state_dict()}
    torch.save(state, folder / f"{rank}.pt")
    close_process_group()


def test_processes_start_from_the_same_buffers(tmp_path):
    torch.multiprocessing.spawn(share_buffers, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["before"].tolist() != second["before"].tolist()
    for name in ("weight", "random", "strided"):
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)
    assert first["random"].tolist() == first["before"].tolist()


def test_one_scheduler_step_per_optimizer_step(tmp_path):
    cfg = config(tmp_path, "SOLVER.GRAD_ACCUM_STEPS", "3", "DATASETS.TEST", "()")
    trainer = run(cfg)
    assert trainer.scheduler.last_epoch == cfg.SOLVER.MAX_ITER
    steps = {int(s["step"]) for s in trainer.optimizer.state_dict()["state"].values()}
    assert steps == {cfg.SOLVER.MAX_ITER}


def test_the_polynomial_schedule_of_the_releases():
    opts = ("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.MAX_ITER", 4, "SOLVER.BASE_LR", 1.0)
    cfg = load_config("escnet_tiny", [*opts, "SOLVER.WARMUP_ITERS", 0, "SOLVER.POLY_LR_POWER", 2.0])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(4):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([(1 - i / 4) ** 2 for i in range(4)])


def test_training_classes_keep_synonyms_and_skip_what_is_not_registered(tmp_path):
    cfg = config(tmp_path)
    assert training_classes(cfg) == CLASSES
    cfg.DATASETS.TRAIN = ("not_here",)
    assert training_classes(cfg) is None
