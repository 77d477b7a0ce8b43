"""ESCNet as a whole, on its registered name."""

from dataclasses import replace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torchvision.transforms.functional import normalize

from escnet_d2.data import register_folder_dataset
from escnet_d2.structures import Vocabulary


def losses(model, batch):
    return model.train()(batch)


def segment(model, batch):
    with torch.no_grad():
        return model.eval()(batch)


def twin(cfg, model):
    """Builds a model of another configuration with the same weights."""
    other = build_model(cfg)
    other.load_state_dict(model.state_dict())
    return other


def assert_same(results, expected, *, atol=1e-6):
    assert len(results) == len(expected)
    for a, b in zip(results, expected):
        torch.testing.assert_close(a["sem_seg"], b["sem_seg"], rtol=1e-4, atol=atol)


VARIANTS = {
    "default": [],
    "ce": ["MODEL.ESCNET.LOSS", "ce"],
    "no sam": ["MODEL.ESCNET.USE_SAM", False],
    "no sam, no aux": ["MODEL.ESCNET.USE_SAM", False, "MODEL.ESCNET.AUX_LOSS_WEIGHT", 0.0],
    "no aux": ["MODEL.ESCNET.AUX_LOSS_WEIGHT", 0.0],
    "points": ["MODEL.ESCNET.PROMPTS", ["point"]],
    "masks": ["MODEL.ESCNET.PROMPTS", ["mask"]],
    "spatial": ["MODEL.ESCNET.SOFTMAX", "spatial"],
    "softmax": ["MODEL.ESCNET.SOFTMAX", "class", "MODEL.ESCNET.ALPHA", 0.1],
    "guidance": ["MODEL.ESCNET.SAM_OUTPUTS", ["guidance"]],
    "pooling": ["MODEL.ESCNET.SAM_OUTPUTS", ["pooling"]],
    "own features and masks": ["MODEL.ESCNET.SAM_OUTPUTS", ["features", "masks"]],
    "frozen sam": ["MODEL.SAM.TRAIN", False],
    "one block": ["MODEL.ESCNET.NUM_BLOCKS", 1],
    "attention": ["MODEL.CLIP.FINETUNE", "attention"],
    "frozen clip": ["MODEL.CLIP.FINETUNE", "none"],
    "channels": ["MODEL.CLIP.TEMPLATES", "vild", "MODEL.CLIP.TEMPLATE_ENSEMBLE", "channels"],
    "skip": ["MODEL.ESCNET.UNLABELLED", "skip"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_trainable_parameter_gets_a_gradient(tiny_cfg, batch, variant, past_the_start):
    tiny_cfg.merge_from_list(VARIANTS[variant])
    model = build_model(tiny_cfg)
    past_the_start(model.sem_seg_head)
    values = losses(model, batch)
    assert "loss_sem_seg" in values
    total = sum(values.values())
    assert torch.isfinite(total)
    total.backward()
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == trainable
    # no_mask_embed has a zero gradient where every class has foreground.
    zero = {n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    assert all(n.endswith("no_mask_embed.weight") for n in zero), zero
    result = segment(model, batch)
    assert torch.isfinite(result[0]["sem_seg"]).all()


def test_results_have_the_size_asked_for(tiny_model, batch, vocabulary):
    for inputs, result in zip(batch, segment(tiny_model, batch)):
        scores = result["sem_seg"]
        assert scores.shape == (vocabulary.num_classes, inputs["height"], inputs["width"])
        assert scores.min() >= 0
        assert scores.max() <= 1
    for inputs in batch:
        del inputs["height"], inputs["width"]
    shapes = [r["sem_seg"].shape[1:] for r in segment(tiny_model, batch)]
    assert shapes == [x["image"].shape[1:] for x in batch]


def test_batching_and_its_order_change_nothing(tiny_model, batch):
    together = segment(tiny_model, batch)
    assert_same(segment(tiny_model, batch[::-1])[::-1], together)
    assert_same([segment(tiny_model, [x])[0] for x in batch], together)


def test_class_order_changes_nothing(tiny_model, batch, vocabulary):
    order = [3, 0, 4, 2, 1]
    shuffled = Vocabulary.from_classes([vocabulary.class_names[i] for i in order])
    expected = [{"sem_seg": x["sem_seg"][order]} for x in segment(tiny_model, batch)]
    got = segment(tiny_model, [{**x, "vocabulary": shuffled} for x in batch])
    assert_same(got, expected, atol=1e-5)


@pytest.mark.parametrize("sliding", [False, True])
def test_each_view_has_its_own_number_of_classes(tiny_model, batch, sliding):
    names = [f"class {index}" for index in range(40)]
    inputs = [{**x, "vocabulary": Vocabulary.from_classes(names)} for x in batch]
    tiny_model.views.options = replace(tiny_model.views.options, sliding_window=sliding)
    everything = segment(tiny_model, inputs)
    head, numbers = tiny_model.sem_seg_head, []
    head.votes_kept = 0.9
    head.register_forward_hook(lambda *arguments: numbers.append(arguments[-1].entries.shape[1]))
    together = segment(tiny_model, inputs)
    assert len(set(numbers)) > 1
    assert max(numbers) < 40
    for full, pruned, number in zip(everything, together, numbers):
        kept = pruned["sem_seg"].amax(dim=(1, 2)) > 0
        assert sliding or kept.sum() == number
        assert not torch.allclose(pruned["sem_seg"][kept], full["sem_seg"][kept])
    # What an image is tested with, and how, changes nothing.
    assert_same([segment(tiny_model, [x])[0] for x in inputs], together)
    order = torch.randperm(40)
    shuffled = Vocabulary.from_classes([names[index] for index in order])
    head.class_chunk_size = 3
    got = segment(tiny_model, [{**x, "vocabulary": shuffled} for x in inputs])
    assert_same(got, [{"sem_seg": x["sem_seg"][order]} for x in together], atol=1e-5)
    head.max_classes = 4
    numbers.clear()
    segment(tiny_model, inputs)
    assert max(numbers) == 4


@pytest.mark.parametrize("num_classes", [1, 300])
def test_any_number_of_classes(tiny_model, batch, num_classes):
    vocabulary = Vocabulary.from_classes([f"class {i}" for i in range(num_classes)])
    inputs = [{**x, "vocabulary": vocabulary, "height": 9, "width": 7} for x in batch]
    for result in segment(tiny_model, inputs):
        assert result["sem_seg"].shape == (num_classes, 9, 7)


def test_each_image_has_its_own_vocabulary(tiny_model, batch):
    other = Vocabulary.from_classes(["tree", "house|home"], synonyms="max")
    mixed = segment(tiny_model, [batch[0], {**batch[1], "vocabulary": other}])
    assert mixed[1]["sem_seg"].shape[0] == 2
    # And once more: nothing remembered wrongly.
    for _ in range(2):
        assert_same(mixed[:1], segment(tiny_model, batch[:1]))


def test_training_with_several_vocabularies(tiny_model, batch):
    other = Vocabulary.from_classes(["tree", "house"])
    batch = [batch[0], {**batch[1], "vocabulary": other}, batch[1]]
    together = losses(tiny_model, batch)
    alone = [losses(tiny_model, [x]) for x in batch]
    assert together.keys() == alone[0].keys()
    # Each image counts the same, though one vocabulary has two of the three.
    for name, value in together.items():
        torch.testing.assert_close(value, sum(x[name] for x in alone) / 3)


def test_default_vocabulary(tiny_model, batch):
    for inputs in batch:
        del inputs["vocabulary"]
    with pytest.raises(ValueError, match="no 'vocabulary'"):
        segment(tiny_model, batch)
    tiny_model.vocabulary = Vocabulary.from_classes(["cat", "dog"])
    assert segment(tiny_model, batch)[0]["sem_seg"].shape[0] == 2


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("background", ["none", "words", "threshold"])
def test_label_map_only_equals_arg_max(tiny_cfg, batch, sliding, background):
    tiny_cfg.TEST.SLIDING_WINDOW = sliding
    vocabulary = Vocabulary.from_classes(
        ["cat", "dog|hound", "sky"], synonyms="max", background=background
    )
    batch = [{**x, "vocabulary": vocabulary} for x in batch]
    model = build_model(tiny_cfg)
    full = segment(model, batch)
    tiny_cfg.TEST.LABEL_MAP_ONLY = True
    for a, b in zip(segment(twin(tiny_cfg, model), batch), full):
        score, label = b["sem_seg"].max(dim=0)
        assert set(a) == {"label_map", "score_map"}
        assert torch.equal(a["label_map"], label)
        torch.testing.assert_close(a["score_map"], score)


def test_sliding_window_of_one_window_is_the_whole_image(tiny_cfg, vocabulary):
    image = torch.randint(0, 256, (3, 96, 96)).byte()
    inputs = [{"image": image, "vocabulary": vocabulary}]
    model = build_model(tiny_cfg)
    expected = segment(model, inputs)[0]["sem_seg"]
    tiny_cfg.TEST.SLIDING_WINDOW = True
    sliding = segment(twin(tiny_cfg, model), inputs)[0]["sem_seg"]
    torch.testing.assert_close(sliding, expected)


def test_global_view_is_averaged_with_the_windows(tiny_cfg, vocabulary):
    inputs = [{"image": torch.randint(0, 256, (3, 96, 192)).byte(), "vocabulary": vocabulary}]
    model = build_model(tiny_cfg)

    def run(**options):
        cfg = tiny_cfg.clone()
        for key, value in options.items():
            cfg.TEST[key] = value
        return segment(twin(cfg, model), inputs)[0]["sem_seg"]

    windows = run(SLIDING_WINDOW=True, WINDOW_GLOBAL_VIEW=False)
    both = run(SLIDING_WINDOW=True)
    # Means commute with the resize to the image up to the view's own two resizes.
    torch.testing.assert_close(both, (windows + run()) / 2, rtol=0, atol=2e-2)
    squashed = run(SLIDING_WINDOW=True, WINDOW_IMAGE_SIZE=(96, 96))
    torch.testing.assert_close(squashed, run(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(tiny_model, batch, dtype):
    expected = segment(tiny_model, batch)
    with torch.autocast("cpu", dtype):
        got = segment(tiny_model, batch)
        values = losses(tiny_model, batch)
    sum(values.values()).backward()
    assert all(torch.isfinite(v) for v in values.values())
    gradients = [p.grad for p in tiny_model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    for a, b in zip(got, expected):
        assert a["sem_seg"].dtype == torch.float32
        torch.testing.assert_close(a["sem_seg"], b["sem_seg"], rtol=0, atol=0.03)


def test_autocast_leaves_nothing_behind(tiny_model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        segment(tiny_model, batch)
    after = segment(tiny_model, batch)[0]["sem_seg"]
    tiny_model.clip.text.forget()
    assert torch.equal(after, segment(tiny_model, batch)[0]["sem_seg"])


def test_all_ignored_target(tiny_model, batch):
    for inputs in batch:
        inputs["sem_seg"] = torch.full_like(inputs["sem_seg"], 255)
    values = losses(tiny_model, batch)
    assert all(torch.isfinite(v) for v in values.values())
    assert values["loss_sem_seg_aux1"] == 0


def test_a_checkpoint_needs_no_clip_or_sam_files(tiny_cfg):
    tiny_cfg.MODEL.CLIP.WEIGHTS = "openai"
    tiny_cfg.MODEL.SAM.WEIGHTS = "vit_b"
    tiny_cfg.MODEL.WEIGHTS = "model_final.pth"
    build_model(tiny_cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.FORMAT", "BGR", "INPUT.FORMAT must be RGB"),
        ("CLIP.ASPECT", "crop", "ASPECT must be one of squash, keep"),
        ("CLIP.DENSE_RESIDUAL", "both", "DENSE_RESIDUAL must be one of cls, token"),
        ("CLIP.FINETUNE", "some", "CLIP.FINETUNE must be one of attention, full, none"),
        ("CLIP.INTERMEDIATE_BLOCKS", [1, 3], "ascending blocks of 0..2"),
        ("CLIP.INTERMEDIATE_BLOCKS", [2, 1], "ascending blocks of 0..2"),
        ("CLIP.RESOLUTION", 100, "RESOLUTION must be a multiple of the patch size 8"),
        ("CLIP.RESOLUTION", 8 * 129, "RESOLUTION must be.*1 to 128 patches"),
        ("CLIP.TEMPLATE_ENSEMBLE", "max", "TEMPLATE_ENSEMBLE"),
        ("CLIP.TEXT_BATCH_SIZE", 0, "TEXT_BATCH_SIZE must be 1 or more"),
        ("ESCNET.ALPHA", 0.0, "ALPHA"),
        ("ESCNET.AUX_LOSS_WEIGHT", -1.0, "AUX_LOSS_WEIGHT must be 0 or more"),
        ("ESCNET.CLASS_CHUNK_SIZE", -2, "CLASS_CHUNK_SIZE must be -1 or more"),
        ("ESCNET.DECODER_DIMS", [16], "two values each"),
        ("ESCNET.EMBED_KERNEL", 4, "EMBED_KERNEL must be odd"),
        ("ESCNET.KMEANS_ITERATIONS", -1, "KMEANS_ITERATIONS must be 0 or more"),
        ("ESCNET.LOSS", "dice", "LOSS must be one of bce, ce"),
        ("ESCNET.MAX_CLASSES", -1, "MAX_CLASSES must be 0 or more"),
        ("ESCNET.NUM_BLOCKS", 0, "NUM_BLOCKS"),
        ("ESCNET.NUM_HEADS", 3, "NUM_HEADS must divide"),
        ("ESCNET.NUM_POINTS", 9, "NUM_POINTS"),
        ("ESCNET.PROMPTS", ["point", "box"], "PROMPTS must name one or both of point, mask"),
        (
            "ESCNET.SAM_OUTPUTS",
            ["boxes"],
            "SAM_OUTPUTS must name one or more of guidance, pooling, features, masks",
        ),
        (
            "ESCNET.SAM_OUTPUTS",
            [],
            "SAM_OUTPUTS must name one or more of guidance, pooling, features, masks",
        ),
        ("ESCNET.SOFTMAX", "pixel", "SOFTMAX must be one of relative, class, spatial"),
        ("ESCNET.TRAIN_CLASSES", -1, "TRAIN_CLASSES must be 0 or more, got -1"),
        ("ESCNET.UNLABELLED", "drop", "UNLABELLED must be auto or one of negative, skip"),
        ("ESCNET.VOTES_KEPT", 0.0, r"VOTES_KEPT must be in \(0, 1\], got 0"),
        ("ESCNET.WINDOW_SIZE", 0, "WINDOW_SIZE must be 1 or more"),
        ("SAM.NUM_HEADS", 3, "SAM.EMBED_DIM must be a multiple"),
        ("TEST.WINDOW_BATCH_SIZE", 0, "WINDOW_BATCH_SIZE"),
        ("TEST.WINDOW_IMAGE_SIZE", (640, 0), "WINDOW_IMAGE_SIZE"),
        ("TEST.WINDOW_OVERLAP", 1.0, "WINDOW_OVERLAP"),
        ("TEST.WINDOW_SIZE", 100, "WINDOW_SIZE must be a multiple of the patch size 8"),
        ("TEST.WINDOW_SIZE", 8 * 129, "WINDOW_SIZE must be.*1 to 128 patches"),
    ],
)
def test_wrong_values_are_refused_by_key(tiny_cfg, key, value, message):
    key = key if key.startswith(("INPUT", "TEST")) else f"MODEL.{key}"
    tiny_cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg)


def test_bad_batches(tiny_model, batch):
    with pytest.raises(ValueError, match="'sem_seg' is"):
        losses(tiny_model, [{**batch[0], "sem_seg": torch.zeros(3, 3, dtype=torch.long)}])
    del batch[0]["sem_seg"]
    with pytest.raises(ValueError, match="has no 'sem_seg'"):
        losses(tiny_model, batch)


@pytest.mark.parametrize("label_map_only", [False, True])
def test_nan_scores_are_an_error(tiny_model, batch, label_map_only):
    tiny_model.label_map_only = label_map_only
    with torch.no_grad():
        next(tiny_model.sem_seg_head.decoder.parameters())[:] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN class scores.*TEST.DTYPE"):
        segment(tiny_model, batch)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (9, 2)])
def test_tiny_images(tiny_model, vocabulary, size):
    image = torch.randint(0, 256, (3, *size)).byte()
    result = segment(tiny_model, [{"image": image, "vocabulary": vocabulary}])[0]
    assert result["sem_seg"].shape[1:] == size


def test_unlabeled_pixels_of_folders_of_ones_own_are_not_trained_on(tiny_cfg, tmp_path):
    names = ("unlabeled_a", "unlabeled_b")
    for name in names:
        register_folder_dataset(name, tmp_path, tmp_path, ["cat", "dog"])
    benchmark = "coco_2017_train_stuff_all_sem_seg"
    for train, mode, expected in (
        (names, "auto", "skip"),
        ((names[0], benchmark), "auto", "negative"),
        ((benchmark,), "auto", "negative"),
        ((), "auto", "negative"),
        (names, "negative", "negative"),
        ((benchmark,), "skip", "skip"),
    ):
        tiny_cfg.DATASETS.TRAIN = train
        tiny_cfg.MODEL.ESCNET.UNLABELLED = mode
        assert build_model(tiny_cfg).unlabeled == expected
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_clip_sees_images_normalized_by_its_statistics(tiny_model, vocabulary):
    seen = []
    encode = tiny_model.clip.encode_image
    tiny_model.clip.encode_image = lambda images: seen.append(images) or encode(images)
    image = torch.randint(0, 256, (3, 96, 96)).byte()
    segment(tiny_model, [{"image": image, "vocabulary": vocabulary}])
    expected = normalize(image / 255, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-4, atol=1e-5)
    assert not any(name.startswith("pixel") for name in tiny_model.state_dict())


@pytest.mark.parametrize("shape", [(64, 64), (1, 3, 64, 64), (64, 64, 3), (3, 0, 64)])
def test_images_of_another_shape_are_refused(tiny_model, shape):
    batch = [{"image": torch.zeros(shape), "vocabulary": Vocabulary.from_classes(["a", "b"])}]
    with pytest.raises(ValueError, match=r"images of shape \(3, h, w\), got \("):
        tiny_model.eval()(batch)
