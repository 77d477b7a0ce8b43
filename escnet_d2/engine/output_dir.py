"""``OUTPUT_DIR``, the folder of a run: of the one configuration in its ``config.yaml``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from escnet_d2.config import key_values, read_config
from escnet_d2.evaluation.results import RESULTS_NAME

# Where an evaluation's results go, and of which data sets they are.
_FREE_IN_EVALUATION = ("DATASETS.TEST", "OUTPUT_DIR")
# A training that goes on with other values of these is another one, but for where its files are.
_OF_A_TRAINING = ("DATASETS.TRAIN", "VOCABULARY.TRAIN", "MODEL.")
_OF_A_MACHINE = ("WEIGHTS", "DEVICE")


def inference_dir(cfg: CfgNode) -> Path:
    """Returns the folder of a run's results, which has one folder for each data set."""
    return Path(cfg.OUTPUT_DIR) / "inference"


def config_file(cfg: CfgNode, *, eval_only: bool) -> Path:
    """Returns where a run writes its configuration: an evaluation beside its results.

    ``OUTPUT_DIR`` may be that of a training, whose ``config.yaml`` stays.
    """
    return (inference_dir(cfg) if eval_only else Path(cfg.OUTPUT_DIR)) / "config.yaml"


def changed_keys(cfg: CfgNode, file: Path, *, shared_only: bool = False) -> list[str]:
    """Returns the keys whose values differ from those in the file of another run, sorted.

    Args:
        cfg: of the run that starts.
        file: ``config.yaml`` of the other one.
        shared_only: pass over keys that only one of the two has, as of another version.

    Raises:
        ConfigFileError: the file cannot be read.
    """
    written = dict(key_values(read_config(file)))
    now, missing = dict(key_values(yaml.safe_load(cfg.dump()))), object()
    keys = written.keys() & now.keys() if shared_only else written.keys() | now.keys()
    return [key for key in sorted(keys) if written.get(key, missing) != now.get(key, missing)]


def check_evaluation_folder(cfg: CfgNode, *, rerun: bool) -> None:
    """Makes sure that ``OUTPUT_DIR`` will hold results of one configuration.

    To be called before the ``config.yaml`` there is overwritten.

    Args:
        cfg: of the evaluation that starts.
        rerun: whether its data sets are evaluated again. Their old results are removed, and those
            that a training left, which are of whatever checkpoint there was.

    Raises:
        ValueError: there are further results, of a configuration that differs in more than
            ``DATASETS.TEST``; names the keys.
    """
    folder = Path(cfg.OUTPUT_DIR)
    rerun = rerun or (folder / "last_checkpoint").is_file()
    found = {path.parent.name: path for path in _results(cfg)}
    replaced = found.keys() & set(cfg.DATASETS.TEST) if rerun else set()
    others = sorted(found.keys() - replaced)
    if others:
        # Results that no evaluation has described are a training's.
        files = [config_file(cfg, eval_only=eval_only) for eval_only in (True, False)]
        file = next(filter(Path.is_file, files), None)
        changed = changed_keys(cfg, file) if file else ["its config.yaml is missing"]
        changed = [key for key in changed if key not in _FREE_IN_EVALUATION]
        if changed:
            raise ValueError(
                f"OUTPUT_DIR {folder} holds results of another configuration on "
                f"{', '.join(others)}; what differs: {', '.join(changed)}. Choose another "
                "OUTPUT_DIR, or evaluate all of these data sets again with --rerun."
            )
    for name in replaced:
        found[name].unlink(missing_ok=True)


def check_training_folder(
    cfg: CfgNode, *, resume: bool, overwrite: bool, allow_changes: bool
) -> None:
    """Keeps a training from replacing or continuing another one by mistake.

    Args:
        cfg: of the training that starts.
        resume: whether it goes on from the last checkpoint in ``OUTPUT_DIR``.
        overwrite: whether checkpoints there may be replaced.
        allow_changes: whether it may go on with another model, data set or class list.

    Raises:
        ValueError: names the checkpoints or keys, and the flag that allows it.
    """
    folder = Path(cfg.OUTPUT_DIR)
    found = _checkpoints(folder)
    if found and not (resume or overwrite):
        raise ValueError(
            f"OUTPUT_DIR {folder} holds checkpoints of another training, such as "
            f"{found[-1].name}: --resume goes on with it, --overwrite deletes them; or choose "
            "another OUTPUT_DIR."
        )
    if (scores := _results(cfg)) and not (resume or overwrite):
        raise ValueError(
            f"OUTPUT_DIR {folder} holds scores of another run, such as {scores[0]}: --overwrite "
            "deletes them; or choose another OUTPUT_DIR."
        )
    if found and resume and not (folder / "last_checkpoint").is_file():
        raise ValueError(
            f"--resume: {folder / 'last_checkpoint'} is not there to say which of the checkpoints "
            f"is the last: write its name into it, such as {found[-1].name}."
        )
    if not resume and Path(cfg.MODEL.WEIGHTS).resolve() in [path.resolve() for path in found]:
        raise ValueError(
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} is one of the checkpoints that --overwrite "
            "deletes: copy it, or choose another OUTPUT_DIR."
        )
    if not (found and resume and (folder / "config.yaml").is_file()) or allow_changes:
        return
    changed = [
        key
        for key in changed_keys(cfg, config_file(cfg, eval_only=False), shared_only=True)
        if key.startswith(_OF_A_TRAINING) and key.rpartition(".")[2] not in _OF_A_MACHINE
    ]
    if changed:
        raise ValueError(
            f"--resume: {folder / 'config.yaml'} has another {', '.join(changed)} than this run. "
            "Give the configuration of that run, choose another OUTPUT_DIR, or go on with "
            "--allow-changes."
        )


def empty_training_folder(cfg: CfgNode) -> None:
    """Deletes checkpoints, scores and metrics of another run, which this one would mix with."""
    folder = Path(cfg.OUTPUT_DIR)
    written = config_file(cfg, eval_only=True)
    for path in [*_checkpoints(folder), folder / "last_checkpoint", *_results(cfg), written]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        # Emptied, not deleted: this training's writer has opened it already.
        (folder / "metrics.json").open("r+").truncate(0)


def _results(cfg: CfgNode) -> list[Path]:
    return sorted(inference_dir(cfg).glob(f"*/{RESULTS_NAME}"))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("model_*.pth"))
