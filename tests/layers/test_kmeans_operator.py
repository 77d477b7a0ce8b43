"""torch.ops.escnet_d2.masked_kmeans as an operator: devices, tracing, gradients, threads."""

from __future__ import annotations

import pytest
import torch

from escnet_d2.layers import masked_kmeans
from escnet_d2.layers.kmeans_reference import kmeans_reference

OP = torch.ops.escnet_d2.masked_kmeans.default


def assert_equal(results, expected):
    for got, want in zip(results, expected):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def maps(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype), torch.rand(shape) < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", range(1, 9))
def test_equals_the_reference(hard_maps, dtype, k):
    for height, width in [(1, 1), (7, 24), (24, 24), (33, 3), (128, 65)]:
        scores, mask = hard_maps(height, width, dtype)
        for max_iter in (0, 1, 10):
            expected = kmeans_reference(scores, mask, k, max_iter)
            assert_equal(OP(scores, mask, k, max_iter), expected)


@pytest.mark.parametrize("shape", [(0, 6, 5), (2, 0, 3, 4), (6, 5), (2, 3, 6, 5)])
def test_leading_dimensions(shape):
    scores, mask = maps(*shape)
    result = masked_kmeans(scores, mask, 3)
    leading = shape[:-2]
    assert [tuple(x.shape) for x in result] == [shape, (*leading, 3, 2), *[(*leading, 3)] * 2]
    assert_equal(result, kmeans_reference(scores, mask, 3))


def test_strides_do_not_matter():
    scores, mask = maps(4, 9, 8, 6)
    expected = masked_kmeans(scores, mask, 4)
    strided = scores.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    assert not strided.is_contiguous()
    assert_equal(masked_kmeans(strided, mask, 4), expected)
    assert_equal(masked_kmeans(scores, mask.mT.contiguous().mT, 4), expected)
    repeated = scores[:1].expand(4, -1, -1, -1)
    assert_equal(masked_kmeans(repeated, mask, 4), masked_kmeans(repeated.clone(), mask, 4))


def test_the_number_of_threads_does_not_matter():
    scores, mask = maps(300, 24, 24)
    before = torch.get_num_threads()
    expected = masked_kmeans(scores, mask)
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for _ in range(3):
                assert_equal(masked_kmeans(scores, mask), expected)
    finally:
        torch.set_num_threads(before)


def test_inputs_stay_as_they_are():
    scores, mask = maps(3, 9, 9)
    copies = scores.clone(), mask.clone()
    masked_kmeans(scores, mask)
    assert_equal((scores, mask), copies)


def test_autocast_leaves_the_scores_alone():
    # Two scores that bfloat16 can't tell apart.
    scores = torch.tensor([[1.0, 1.001]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        assert masked_kmeans(scores, mask, k=1).points.tolist() == [1]
    assert masked_kmeans(scores.bfloat16(), mask, k=1).points.tolist() == [0]


@pytest.mark.skipif(not hasattr(torch.library, "register_vmap"), reason="needs torch 2.5")
def test_vmap_adds_a_leading_dimension():
    scores, mask = maps(5, 4, 9, 8)
    mapped = torch.vmap(lambda s, m: tuple(masked_kmeans(s, m, 3)))(scores, mask)
    assert_equal(mapped, masked_kmeans(scores, mask, 3))
    inner = torch.vmap(lambda s, m: tuple(masked_kmeans(s, m, 3)), in_dims=(1, None))
    shared = mask[:, 0]
    expected = masked_kmeans(scores.movedim(1, 0), shared.expand(4, -1, -1, -1), 3)
    assert_equal(inner(scores, shared), expected)
    # PyTorch leaves out arguments that equal their defaults.
    scores, mask = maps(2, 32, 32)
    assert_equal(torch.vmap(OP)(scores, mask), masked_kmeans(scores, mask, 5, 10))


def test_results_have_no_gradient():
    scores, mask = maps(2, 6, 6)
    scores.requires_grad_()
    assert not any(x.requires_grad for x in OP(scores, mask, 3, 10))
    # And the rest of a graph goes on without them.
    (scores.sum() * masked_kmeans(scores, mask, 3).centers.sum()).backward()
    assert scores.grad is not None


def test_shapes_without_data():
    scores = torch.empty(2, 6, 5, device="meta", dtype=torch.float16)
    result = OP(scores, torch.empty(2, 6, 5, device="meta", dtype=torch.bool), 4, 10)
    for function in (OP, kmeans_reference):
        real = function(torch.randn(2, 6, 5).half(), torch.rand(2, 6, 5) < 0.5, 4, 10)
        for got, want in zip(result, real):
            assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


def test_five_clusters_and_ten_iterations_are_the_default():
    scores, mask = maps(2, 32, 32)
    expected = masked_kmeans(scores, mask, 5, 10)
    for function in (masked_kmeans, OP, kmeans_reference):
        assert_equal(function(scores, mask), expected)
    assert OP(scores.to("meta"), mask.to("meta"))[1].shape == expected.centers.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be 1 to 8, got 0"),
        ({"k": 9}, "k must be 1 to 8, got 9"),
        ({"max_iter": -1}, "max_iter must be 0 or more, got -1"),
        ({"mask": torch.ones(4, 4)}, "mask must be bool"),
        ({"mask": torch.ones(4, 5) > 0}, "must both be"),
        ({"scores": torch.rand(4), "mask": torch.ones(4) > 0}, "must both be"),
        ({"scores": torch.rand(4, 4).double()}, "scores must be float32"),
        ({"scores": torch.rand(1, 129), "mask": torch.ones(1, 129) > 0}, "H and W must be 1 to"),
        ({"scores": torch.rand(129, 1), "mask": torch.ones(129, 1) > 0}, "H and W must be 1 to"),
        ({"scores": torch.rand(0, 4), "mask": torch.ones(0, 4) > 0}, "H and W must be 1 to 128"),
    ],
)
@pytest.mark.parametrize("function", [OP, kmeans_reference, masked_kmeans])
def test_arguments_are_checked(function, change, message):
    # Python's own check stands before the operator, so that both must say the same.
    arguments = {"scores": torch.rand(4, 4), "mask": torch.ones(4, 4) > 0, "k": 5, "max_iter": 10}
    with pytest.raises(ValueError, match=message):
        function(**{**arguments, **change})


@pytest.mark.skipif(not hasattr(torch.library, "opcheck"), reason="needs torch 2.4")
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_opcheck(needs_gradient):
    scores, mask = maps(3, 9, 8)
    torch.library.opcheck(OP, (scores.requires_grad_(needs_gradient), mask, 4, 10))


@pytest.mark.slow
def test_torch_compile():
    def function(scores, mask):
        clusters = masked_kmeans(scores * 2, mask, 4)
        return clusters.centers + 1, clusters.labels, clusters.points

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for count in (3, 5):  # another batch size compiles again, for sizes that vary
        scores, mask = maps(count, 9, 8)
        assert_equal(compiled(scores, mask), function(scores, mask))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gpus_compute_the_same(hard_maps, dtype):
    grids = [(1, 1), (7, 24), (24, 24), (33, 3), (128, 128), (24, 24), (40, 40), (78, 79)]
    for k, (height, width) in enumerate(grids, start=1):
        scores, mask = hard_maps(height, width, dtype)
        # Few maps and many: blocks of one warp and of four.
        for repeats in (1, 120):
            scores_on_gpu, mask_on_gpu = (x.repeat(repeats, 1, 1).cuda() for x in (scores, mask))
            result = [x.cpu() for x in OP(scores_on_gpu, mask_on_gpu, k, 10)]
            expected = OP(*(x.repeat(repeats, 1, 1) for x in (scores, mask)), k, 10)
            assert_equal(result, expected)
