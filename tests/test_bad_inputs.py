"""The corpus of bad inputs: every program answers a user's mistake in one line and an exit code.

To extend it, add a :class:`Case` to ``CASES``. A traceback, a message without the expected words, a
silent success and code that an input runs all fail. Inputs are made by functions: no files here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

import pytest
import torch
from PIL import Image

TINY = "photos/tiny.yaml"
# A file's text, its bytes, or a function that makes or changes it.
Content = Union[str, bytes, Callable[[Path], object]]


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        name: of the test.
        command: a program and its arguments. It runs in a folder of the case's own, in which
            ``photos`` is a prepared folder with the data sets photos_train and photos_val.
        says: a regular expression that must be found in the line on stderr.
        code: how the program ends.
        files: what is written there before, by path, or done to what is there.
        slow: run in a process of its own, as programs that start processes need.
    """

    name: str
    command: list[str]
    says: str
    code: int = 2
    files: Mapping[str, Content] = field(default_factory=dict)
    slow: bool = False


def train(*opts: str, flags: Sequence[str] = (), config: str = TINY) -> list[str]:
    """A training of one iteration on ``photos`` that ``opts``, ``flags`` or ``config`` break."""
    return ["train_net.py", "--config-file", config, *flags, "OUTPUT_DIR", "output", *opts]


def demo(*arguments: str, vocabulary: str = "cat, dog") -> list[str]:
    """A run of the demo over ``photos`` that ``arguments`` break."""
    command = ["demo/demo.py", "--input", "photos/images/val", "--output", "output"]
    return [*command, "--vocabulary", vocabulary, "--allow-untrained", *arguments]


def vocabulary_case(name: str, content: Content, says: str, file: str = "names.txt") -> Case:
    """A class list that cannot be read, as the demo gets it."""
    command = demo(vocabulary=file)
    return Case(f"vocabulary: {name}", command, says, files={file: content})


def config_case(name: str, text: Content, says: str, **files: Content) -> Case:
    """A configuration file that cannot be used."""
    written = {"mine.yaml": text, **{f"{stem}.yaml": content for stem, content in files.items()}}
    return Case(f"config: {name}", train(config="mine.yaml"), says, files=written)


def option_case(key: str, value: str, says: str, **files: Content) -> Case:
    """A key with a value that it does not take; ``files`` of text by stem."""
    written = {f"{stem}.txt": content for stem, content in files.items()}
    return Case(f"{key} {value}", train(key, value), says, files=written)


def weights_case(name: str, content: Content, says: str) -> Case:
    """A file that is not a checkpoint of the model."""
    command = train("MODEL.WEIGHTS", "model.pth")
    return Case(f"weights: {name}", command, says, files={"model.pth": content})


def data_case(
    name: str,
    files: str,
    damage: Callable[[Path], object],
    says: str,
    command: Sequence[str] = tuple(train("DATASETS.TEST", "()")),
) -> Case:
    """A prepared folder in which ``damage`` is done to ``files``, a glob."""

    def damage_all(root: Path) -> None:
        for path in root.glob(files):
            damage(path)

    return Case(f"data: {name}", [*command], says, files={"photos": damage_all})


def demo_case(option: str, value: str, says: str, **files: Content) -> Case:
    """An option of the demo, which works without it, with a value that it does not take."""
    written = {f"{stem}.txt": content for stem, content in files.items()}
    return Case(f"demo {option} {value}", demo(option, value), says, files=written)


def program_case(says: str, program: str, *arguments: str, **files: Content) -> Case:
    """Arguments that a program of ``tools/`` or ``demo/`` refuses; ``files`` of torch by stem."""
    written = {f"{stem}.pth": content for stem, content in files.items()}
    name = f"{Path(program).stem} {' '.join(arguments)}"
    return Case(name, [program, *arguments], says, files=written)


# -- generators of files --


def saved(content: object) -> Callable[[Path], object]:
    """A file of torch.save."""
    return lambda path: torch.save(content, path)


def folder(path: Path) -> None:
    """A folder where a file belongs."""
    path.mkdir()


def fifo(path: Path) -> None:
    """A pipe that nobody writes to: opening it waits for ever."""
    os.mkfifo(path)


def truncated(path: Path) -> None:
    """A checkpoint whose end is missing."""
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-2000])


class RunsCode:
    """Unpickled, it leaves a file beside itself."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def pickled_code(path: Path) -> None:
    """A checkpoint that runs code when it is unpickled."""
    torch.save({"model": RunsCode(path.with_name("mark"))}, path)


def checkpoint_of_a_run(path: Path) -> None:
    """An OUTPUT_DIR with a checkpoint, whose config.yaml names another data set."""
    path.mkdir()
    torch.save({"model": {}}, path / "model_final.pth")
    (path / "last_checkpoint").write_text("model_final.pth")
    (path / "config.yaml").write_text("DATASETS:\n  TRAIN: [other]\nVERSION: 2\n")


def checkpoint_without_a_last_one(path: Path) -> None:
    """An OUTPUT_DIR whose ``last_checkpoint`` is lost."""
    checkpoint_of_a_run(path)
    (path / "last_checkpoint").unlink()


COMPARE = ["escnet-d2", "compare", "--output", "output", "--datasets", "A-150"]
EVALUATE = ["escnet-d2", "evaluate", "--config-file", "escnet_tiny"]
EXPORT = ["tools/export_checkpoint.py", "--to"]
INSPECT = "demo/inspect_prompts.py"
PREPARE = "tools/prepare_dataset.py"
DESCRIBE = ["tools/prepare_folder_dataset.py", "--name", "a", "--classes", "a", "--output", "b"]
CLIP = saved({"clip.model.proj": torch.ones(1)})
OUTPUT_IS_USED = {"output": checkpoint_of_a_run}
EVIL = '!!python/object/apply:os.mkdir ["mark"]'

CASES = [
    # Configuration files.
    config_case("code", f"SEED: 1\nA: {EVIL}\n", r"mine\.yaml, line 2: the tag \S+mkdir is ref"),
    config_case(
        "code in the base", "_BASE_: b.yaml\n", r"b\.yaml, line 1: the tag", b=f"SEED: {EVIL}\n"
    ),
    config_case("empty", "", r"mine\.yaml is empty"),
    config_case("number", "3\n", r"mine\.yaml holds a int"),
    config_case("own base", "_BASE_: mine.yaml\n", r"mine\.yaml inherits it in turn"),
    config_case("circle", "_BASE_: b.yaml\n", r"b\.yaml: .* inherits it", b="_BASE_: ./mine.yaml"),
    config_case("missing base", "_BASE_: no.yaml\n", r"mine\.yaml: its _BASE_ no\.yaml is not"),
    config_case("base is a pipe", "_BASE_: b.yaml\n", r"its _BASE_ b\.yaml is not a file", b=fifo),
    config_case("base is a number", "_BASE_: 3\n", r"_BASE_ must be a path"),
    config_case("pipe", fifo, r"no config file 'mine\.yaml'"),
    config_case("binary", bytes(range(256)), r"mine\.yaml is not a YAML text file"),
    config_case("zero bytes in text", "SEED: \0\n", r"mine\.yaml is not a YAML text file"),
    config_case("nested too deep", "[" * 9999, r"mine\.yaml"),
    config_case("repeated key", "SEED: 1\nSEED: 2\n", r"mine\.yaml, line 2: the key SEED"),
    config_case("unknown key", "SOLVER: {LR: 1.0}\n", r"mine\.yaml: unknown .*SOLVER\.LR"),
    config_case("wrong type", "SOLVER: {BASE_LR: fast}\n", r"mine\.yaml: SOLVER\.BASE_LR takes"),
    config_case("no value", "SOLVER: {BASE_LR: }\n", r"mine\.yaml: SOLVER\.BASE_LR has no value"),
    config_case("NaN", "SOLVER: {BASE_LR: .nan}\n", r"SOLVER\.BASE_LR must be finite, got nan"),
    config_case("value for a section", "SOLVER: 3\n", r"mine\.yaml: SOLVER is a section"),
    config_case("unknown section", "SOLVR: 3\n", r"SOLVR\. Did you mean SOLVER"),
    config_case("newer version", "VERSION: 9\n", r"mine\.yaml: Cannot merge a v9"),
    config_case("not closed", "SOLVER: [1\n", r"mine\.yaml, line 2: "),
    Case("config: unknown name", train(config="escnet_tinny"), r"'escnet_tinny'.*Shipped: .*tiny"),
    # Command lines.
    Case("no arguments", ["train_net.py"], "--config-file"),
    Case("--num-gpus 0", train(flags=("--num-gpus", "0")), "--num-gpus .* at least 1"),
    Case("--num-gpus 99999", train(flags=("--num-gpus", "99999")), "99999: without a GPU"),
    Case("--num-machines", train(flags=("--num-machines", "2")), "--dist-url is needed with"),
    Case("--machine-rank", train(flags=("--machine-rank", "1")), "--machine-rank must be in"),
    Case("--launcher", train(flags=("--launcher", "slurm")), "lacks SLURM_PROCID"),
    Case("odd options", train("SEED"), "KEY VALUE pairs"),
    Case("unknown flag", train(flags=("--evalonly",)), "unrecognized arguments: --evalonly"),
    Case(
        "--dist-url",
        train(flags=("--num-machines", "2", "--dist-url", "host:29500")),
        "--dist-url must be auto or tcp://.*'host:29500'",
    ),
    # The demo, and what looks for its classes.
    demo_case("--input", "nowhere", "'nowhere' does not exist"),
    demo_case("--input", "empty.txt", r"No images in 'empty\.txt'", empty=folder),
    demo_case("--input", "a.txt", r"a\.txt is not an image", a="no picture"),
    demo_case("--vocabulary", "|, a", "is empty"),
    demo_case("--vocabulary", "words.txt", r"words\.txt does not exist"),
    demo_case("--device", "meta", r"MODEL\.DEVICE must be cpu.*'meta'"),
    demo_case("--weights", "w.pth", r"w\.pth does not exist"),
    demo_case("--config-file", "none", "'none'"),
    demo_case("--save", "video", "video"),
    demo_case("--opacity", "2", "opacity"),
    demo_case("--batch-size", "0", "--batch-size must be at least 1"),
    demo_case("--output", "", "output '' must name a folder"),
    demo_case("--output", "a.txt/run", r"run' must name a folder, but \S+a\.txt is a file", a=""),
    program_case(r"MODEL\.X", *demo("--opts", "MODEL.X", "1")),
    program_case("give a checkpoint", *(part for part in demo() if part != "--allow-untrained")),
    program_case(r"model\.pth is refused", *demo("--weights", "model.pth"), model=pickled_code),
    program_case("must be at least 1, got 0", INSPECT, *demo("--max-classes", "0")[1:]),
    program_case("no class 'bird'", INSPECT, *demo("--classes", "bird")[1:]),
    vocabulary_case("empty", "", r"names\.txt: it is empty"),
    vocabulary_case("UTF-16", "cat\n".encode("utf-16-le"), r"names\.txt: .*save it as UTF-8"),
    vocabulary_case("nested too deep", "[" * 99999, r"names\.json: expected a JSON", "names.json"),
    vocabulary_case("no name", '[{"id": 1}]', r"names\.json: .*\{'id': 1\}", "names.json"),
    Case("vocabulary: numbers", demo(vocabulary="[1, 2]"), "a list of names, not 1"),
    Case("vocabulary: bytes", demo(vocabulary="caf\udce9,"), "is not UTF-8 text"),
    Case(
        "a crop of two photos",
        train("INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE", "(2.0, 2.0)"),
        r"INPUT\.CROP\.SIZE takes shares of at most 1",
    ),
    # Values of keys.
    option_case("SOLVER.LR", "1.0", r"unknown configuration key SOLVER\.LR"),
    option_case("SOLVER.BASE_LR", "0.0", r"SOLVER\.BASE_LR must be above 0, got 0\.0"),
    option_case("SOLVER.BASE_LR", "nan", r"SOLVER\.BASE_LR takes .*float"),
    option_case("SOLVER.BASE_LR", "1e999", r"SOLVER\.BASE_LR must be finite, got inf"),
    option_case("SOLVER.WEIGHT_DECAY", "-0.1", r"SOLVER\.WEIGHT_DECAY must be at least 0"),
    option_case("SOLVER.MAX_ITER", "0", r"SOLVER\.MAX_ITER must be at least 1, got 0"),
    option_case("SOLVER.MAX_ITER", "2.5", r"SOLVER\.MAX_ITER takes .*int"),
    option_case("SOLVER.MOMENTUM", "2.0", r"SOLVER\.MOMENTUM must be below 1"),
    option_case("SOLVER.BASE_LR_END", "9.0", r"SOLVER\.BASE_LR_END must be at most"),
    option_case("SEED", "99999999999", "SEED must be at most 4294967295"),
    option_case("SOLVER.STEPS", "(5, 3)", r"SOLVER\.STEPS must be iterations in rising order"),
    option_case("SOLVER.STEPS", "('a',)", r"SOLVER\.STEPS takes numbers, got 'a'"),
    option_case("SOLVER.STEPS", "(-1,)", r"SOLVER\.STEPS must be at least 1"),
    option_case("SOLVER.WARMUP_ITERS", "-5", r"SOLVER\.WARMUP_ITERS must be at least 0"),
    option_case("SOLVER.WARMUP_METHOD", "exp", r"WARMUP_METHOD must be one of linear, constant"),
    option_case("SOLVER.OPTIMIZER", "Adagrad", r"SOLVER\.OPTIMIZER must be one of AdamW, SGD"),
    option_case("SOLVER.LR_SCHEDULER_NAME", "Poly", r"LR_SCHEDULER_NAME must be one of .*PolyLR"),
    option_case("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "-1.0", r"CLIP_VALUE must be above 0"),
    option_case("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all", r"CLIP_TYPE must be one of full_model"),
    option_case("SOLVER.IMS_PER_BATCH", "-2", r"SOLVER\.IMS_PER_BATCH must be at least 1"),
    option_case("SOLVER.REFERENCE_WORLD_SIZE", "-1", r"REFERENCE_WORLD_SIZE must be at least 0"),
    option_case("INPUT.CROP.SIZE", "(0, 0)", r"INPUT\.CROP\.SIZE must be above 0"),
    option_case("INPUT.CROP.SIZE", "(32,)", r"INPUT\.CROP\.SIZE must be \(height, width\)"),
    option_case("INPUT.CROP.SIZE", "(32.5, 32)", r"INPUT\.CROP\.SIZE takes whole numbers"),
    option_case("INPUT.CROP.TYPE", "square", r"INPUT\.CROP\.TYPE must be one of absolute"),
    option_case("INPUT.MIN_SIZE_TRAIN", "()", r"INPUT\.MIN_SIZE_TRAIN is empty"),
    option_case("INPUT.MIN_SIZE_TRAIN", "(-3,)", r"INPUT\.MIN_SIZE_TRAIN must be at least 0"),
    option_case("INPUT.MIN_SIZE_TRAIN_SAMPLING", "any", r"must be one of choice, range"),
    option_case("INPUT.MIN_SIZE_TEST", "-1", r"INPUT\.MIN_SIZE_TEST must be at least 0"),
    Case(
        "a range of three sizes",
        train("INPUT.MIN_SIZE_TRAIN", "(1, 2, 3)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"),
        r"INPUT\.MIN_SIZE_TRAIN must be \(smallest, largest\)",
    ),
    option_case("INPUT.SIZE_DIVISIBILITY", "-7", r"INPUT\.SIZE_DIVISIBILITY must be at least -1"),
    option_case("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", "-1.0", "MAX_AREA must be above 0"),
    option_case("MODEL.ESCNET.EMBED_DIM", "0", r"MODEL\.ESCNET\.EMBED_DIM must be at least 1"),
    option_case("MODEL.ESCNET.EMBED_KERNEL", "-1", "EMBED_KERNEL must be odd and above 0"),
    option_case("MODEL.ESCNET.PROMPT_DROPOUT", "1.5", r"PROMPT_DROPOUT must be in \[0, 1\]"),
    option_case("MODEL.ESCNET.IMAGE_GUIDANCE_DIM", "-1", "IMAGE_GUIDANCE_DIM must be 0 or more"),
    option_case("MODEL.SAM.DEPTH", "-1", r"MODEL\.SAM\.DEPTH must be 0 or more"),
    option_case("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 38.5, 0.2]]", "EXPECTED_RESULTS takes"),
    option_case("TEST.EXPECTED_RESULTS", "[['sem_seg', 'mIoU', 'x', 1]]", "takes numbers, got 'x'"),
    option_case("MODEL.META_ARCHITECTURE", "ZeroShotCLIP", "nothing to train: use --eval-only"),
    option_case("VOCABULARY.SYNONYMS", "all", r"VOCABULARY\.SYNONYMS must be one of auto, first"),
    option_case("VOCABULARY.BACKGROUND", "x", r"VOCABULARY\.BACKGROUND must be one of none"),
    option_case("INPUT.RANDOM_FLIP", "both", r"INPUT\.RANDOM_FLIP must be one of none"),
    option_case("DATALOADER.NUM_WORKERS", "-1", r"DATALOADER\.NUM_WORKERS must be at least 0"),
    option_case("DATALOADER.SAMPLER_TRAIN", "Other", r"SAMPLER_TRAIN must be TrainingSampler"),
    option_case("MODEL.META_ARCHITECTURE", "ESCNett", r"META_ARCHITECTURE must be .*ESCNet"),
    option_case("MODEL.DEVICE", "gpu", r"MODEL\.DEVICE must be cpu, cuda or .*'gpu'"),
    option_case("SOLVER.GRAD_ACCUM_STEPS", "0", r"SOLVER\.GRAD_ACCUM_STEPS must be at least 1"),
    option_case("SOLVER.AMP.DTYPE", "half", r"AMP\.DTYPE must be one of float16, bfloat16"),
    option_case("TEST.AUG.ENABLED", "True", r"TEST\.AUG\.ENABLED must be False"),
    option_case("TEST.DTYPE", "half", r"TEST\.DTYPE must be one of float32, float16, bfloat16"),
    option_case("TEST.IMS_PER_BATCH", "0", r"TEST\.IMS_PER_BATCH must be at least 1"),
    option_case("DATASETS.TEST", "('nope',)", r"DATASETS\.TEST: no data set nope .*photos_train"),
    option_case("MODEL.FLOAT32_MATMUL", "tf32", r"MODEL\.FLOAT32_MATMUL must be one of highest"),
    option_case("DATASETS.TRAIN", "photos_train", r"DATASETS\.TRAIN takes .*tuple"),
    option_case("DATASETS.TRAIN", "(1,)", r"DATASETS\.TRAIN takes names as text, got 1"),
    option_case("DATASETS.TRAIN", "('nope',)", r"DATASETS\.TRAIN: no data set nope .*photos_train"),
    option_case("DATASETS.TRAIN", "()", r"DATASETS\.TRAIN is empty"),
    option_case("DATASETS.TEST", "('photos_val', 'photos_val')", "names photos_val more"),
    option_case("DATASETS.FOLDERS", "(3,)", r"DATASETS\.FOLDERS takes names as text, got 3"),
    option_case("DATASETS.FOLDERS", "('no',)", r"no"),
    option_case("OUTPUT_DIR", "", r"OUTPUT_DIR is empty"),
    option_case(
        *("VOCABULARY.TRAIN", "two.txt"),
        r"VOCABULARY\.TRAIN two\.txt.* 2 classes.*photos_train needs 3",
        two="sky\ndog\n",
    ),
    option_case("VOCABULARY.TEST", "ade150", r"TEST ade150.* 150 classes.*photos_val needs 3"),
    option_case("VOCABULARY.TRAIN", "b.txt", r"TRAIN b\.txt", b=bytes(range(256))),
    option_case("VOCABULARY.TRAIN", "no.txt", r"VOCABULARY\.TRAIN .*no\.txt"),
    Case(
        "VOCABULARY.TEST in an evaluation",
        train("VOCABULARY.TEST", "ade150", flags=("--eval-only",)),
        r"VOCABULARY\.TEST ade150.* 150 classes.*photos_val needs 3",
    ),
    # Where the run goes.
    option_case("OUTPUT_DIR", "a.txt", r"_DIR a\.txt cannot be .*: File exists", a=""),
    option_case("OUTPUT_DIR", "a.txt/b", r"_DIR a\.txt/b cannot be .*: Not a directory", a=""),
    Case(
        "OUTPUT_DIR of another training", train(), "--resume goes on with it", files=OUTPUT_IS_USED
    ),
    Case(
        "resume as another run",
        train(flags=("--resume",)),
        r"config\.yaml has another DATASETS\.TRAIN than this run.*--allow-changes",
        files=OUTPUT_IS_USED,
    ),
    Case(
        "resume without last_checkpoint",
        train(flags=("--resume",)),
        r"last_checkpoint is not there .*model_final\.pth",
        files={"output": checkpoint_without_a_last_one},
    ),
    Case(
        "resume from a checkpoint of nothing",
        train(flags=("--resume", "--allow-changes")),
        r"model_final\.pth",
        files=OUTPUT_IS_USED,
    ),
    # Weights.
    option_case("MODEL.WEIGHTS", "nowhere.pth", r"MODEL\.WEIGHTS nowhere\.pth is not a file"),
    option_case("MODEL.WEIGHTS", ".", r"MODEL\.WEIGHTS \S+ is not a file"),
    weights_case("empty", b"", r"model\.pth"),
    weights_case("text", "not a checkpoint", r"model\.pth"),
    weights_case("truncated", truncated, r"model\.pth is truncated or damaged"),
    weights_case("pickle", pickled_code, r"model\.pth is refused"),
    weights_case("list", saved([1, 2]), r"model\.pth"),
    weights_case("numbers", saved({"model": {"a": 1}}), r"model\.pth is not a checkpoint"),
    weights_case("of another model", saved({"a.weight": torch.zeros(2)}), r"of another model"),
    weights_case("part", saved({"clip.model.logit_scale": torch.zeros(())}), "does not fit"),
    # Data.
    data_case(
        "truncated photo",
        "images/train/*",
        lambda path: path.write_bytes(b"\x89PNG"),
        r"images/train/\d\.png",
    ),
    data_case(
        *("labels of another size", "labels/train/*", Image.new("L", (5, 9)).save),
        r"images/train/\d\.png.*labels/train/\d\.png",
    ),
    data_case(
        *("colored labels", "labels/train/*", Image.new("RGB", (40, 36)).save),
        r"labels/train/\d\.png.*mode RGB",
    ),
    data_case("no images", "*/train/*.png", Path.unlink, "DATASETS.TRAIN"),
    data_case("text", "dataset.json", lambda path: path.write_text("{"), r"dataset\.json"),
    data_case(
        *("truncated photo in an evaluation", "images/val/*"),
        lambda path: path.write_bytes(b"\x89PNG"),
        r"images/val/\d\.png",
        command=train(flags=("--eval-only",)),
    ),
    Case(
        "a loss that explodes",
        train(
            *("SOLVER.BASE_LR", "1e30", "SOLVER.MAX_ITER", "9", "SOLVER.WARMUP_ITERS", "0"),
            *("SOLVER.CLIP_GRADIENTS.ENABLED", "False", "DATASETS.TEST", "()"),
        ),
        "A loss became infinite or NaN at iteration",
        code=1,  # Not a usage error: nobody could know.
    ),
    # Other tools.
    program_case("no ESCNet; there is .*SED", *COMPARE, "--model", "A=b", "--published", "ESCNet"),
    program_case("no data set none is registered", *COMPARE, "--predictions", "A=none:file.json"),
    program_case(r"is not NAME=CONFIG\[:WEIGHTS\]", *COMPARE, "--model", "nothing"),
    program_case("-opts of no model: Z", *COMPARE, "--model", "A=b", "--model-opts", "Z", "K", "V"),
    program_case("give a --model or --predictions", *COMPARE),
    program_case("--datasets names no data set", *COMPARE, "--model", "a=b", "--datasets", ","),
    program_case(
        "a.pth' must name a folder", *COMPARE, "--model", "a=b", "--output", "a.pth", a=""
    ),
    program_case("no data set none is registered", *EVALUATE, "--datasets", "none"),
    program_case("names no data set", *EVALUATE, "--datasets", ","),
    program_case("no_such_overlay", *EVALUATE, "--overlay", "no_such_overlay"),
    Case(
        "overlay that runs code",
        [*EVALUATE, "--overlay", "mine.yaml"],
        r"mine\.yaml, line 1: the tag",
        files={"mine.yaml": f"SEED: {EVIL}\n"},
    ),
    program_case("any of coco_stuff, ade20k_150, ade20k_847", PREPARE),
    program_case("any of coco_stuff, ade20k_150, ade20k_847", PREPARE, "ade20k_3000"),
    program_case("nowhere is not a folder", PREPARE, "voc", "--root", "nowhere"),
    *(
        program_case("SPLIT=IMAGES:LABELS", *DESCRIBE, "--split", split)
        for split in ("train", "train=a", "=a:b", "train=:b", "train=a:")
    ),
    program_case("names a split twice", *DESCRIBE, "--split", "a=b:c", "--split", "a=b:c"),
    program_case("'third'", "tools/download_weights.py", "third"),
    program_case("empty.pth is empty", *EXPORT, "open_clip", "empty.pth", "out.pth", empty=b""),
    program_case("x.pth: No checkpoint of", *EXPORT, "release", "x.pth", "out.pth", x=CLIP),
    program_case("none is not a folder", *EXPORT, "open_clip", "x.pth", "none/out.pth", x=CLIP),
    program_case("x.pth is there already", *EXPORT, "open_clip", "x.pth", "x.pth", x=CLIP),
    program_case(
        *("META_ARCHITECTURE must be ESCNet", "tools/probe_prompts.py", "--config-file"),
        *("cat_seg_tiny", "--allow-untrained", "--dataset", "photos_val", "--output", "o.json"),
        *("--opts", "DATASETS.FOLDERS", "('photos',)"),
    ),
    # In processes of their own.
    Case(
        "two processes",
        train("MODEL.WEIGHTS", "model.pth", flags=("--num-gpus", "2")),
        r"model\.pth .*of another model",
        files={"model.pth": saved({"a": torch.zeros(1)})},
        slow=True,
    ),
]


def parameter(case: Case):
    return pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_a_mistake_is_answered_in_one_line(
    case, prepared_folder, tmp_path, run_program, start_program
):
    prepared_folder(tmp_path / "photos", "photos", train=2, val=2)
    write_files(case.files, tmp_path)
    done = (start_program if case.slow else run_program)(*case.command, cwd=tmp_path)
    out, err = done.stdout, done.stderr
    start = rf"{Path(case.command[0]).name}(?: \w+)?: error: "
    said = [line for line in err.splitlines() if re.match(start, line)]
    # Each of several processes speaks for itself, and torch says that it stops the others.
    assert len(said) == 1 if not case.slow else len(said) >= 1, err
    assert re.search(case.says, said[0]), err
    assert done.returncode == case.code
    assert "Traceback" not in out + err
    assert not (tmp_path / "mark").exists(), "the input has run code"
    assert not (tmp_path / "output/summary.json").exists()
    if case.code == 2:
        # Nothing to scroll past, but for data, which are read when training has begun.
        assert case.name.startswith("data: ") or not out, out
        assert case.slow or "usage:" in err or err.strip() == said[0], err


def test_a_demo_that_cannot_start_deletes_nothing(prepared_folder, tmp_path, run_program):
    prepared_folder(tmp_path / "photos", "photos", train=1, val=1)
    label = tmp_path / "output" / "labels" / "a.png"
    label.parent.mkdir(parents=True)
    label.write_text("of an earlier run")
    settings = {"outputs": ["labels"], "settings": {}}
    (tmp_path / "output" / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "model.pth").write_bytes(b"")
    done = run_program(*demo("--overwrite", "--weights", "model.pth"), cwd=tmp_path)
    assert done.returncode == 2
    assert "model.pth is empty" in done.stderr
    assert label.read_text() == "of an earlier run"


def write_files(files: Mapping[str, Content], root: Path) -> None:
    for name, content in files.items():
        if callable(content):
            content(root / name)
        else:
            (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
