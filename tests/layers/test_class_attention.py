import pytest
import torch
from torch.nn import functional as F

from escnet_d2.layers import ClassAttention, class_chunks
from escnet_d2.layers.class_attention import positive


@pytest.fixture
def layer():
    return ClassAttention(dim=8, text_dim=5, num_heads=2, mlp_ratio=2.0).double()


def test_equals_loops(layer):
    x = torch.randn(2, 4, 2, 3, 8, dtype=torch.float64)
    text = torch.randn(2, 4, 5, dtype=torch.float64)
    assert layer.text_query.bias is layer.text_key.bias is None
    normed = layer.norm1(x)
    q = layer.query(normed) + layer.text_query(text)[:, :, None, None]
    k = layer.key(normed) + layer.text_key(text)[:, :, None, None]
    v = layer.value(normed)
    q, k = (F.elu(t) + 1 for t in (q, k))
    mixed = torch.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        for i in range(4):
            weights = [(q[:, i, ..., head] * k[:, j, ..., head]).sum(-1) for j in range(4)]
            total = sum(weights)
            mixed[:, i, ..., head] = sum(
                (w / total).unsqueeze(-1) * v[:, j, ..., head] for j, w in enumerate(weights)
            )
    expected = x + layer.out(mixed)
    expected = expected + layer.mlp(layer.norm2(expected))
    torch.testing.assert_close(layer(x, text), expected)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_change_nothing(layer, chunk):
    x = torch.randn(2, 7, 2, 3, 8, dtype=torch.float64)
    text = torch.randn(2, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x, text, chunk), layer(x, text))


def test_the_feature_map_is_the_same_without_gradients():
    x = torch.tensor([-200.0, -20.0, -1.5, -1e-6, 0.0, 1e-6, 2.0, 200.0])
    expected = F.elu(x.double()) + 1
    torch.testing.assert_close(positive(x), expected.float())
    assert torch.equal(x.sign(), torch.tensor([-1.0, -1, -1, -1, 0, 1, 1, 1])), "not in place"
    torch.testing.assert_close(positive(x.requires_grad_()), expected.float())
    positive(x).sum().backward()
    torch.testing.assert_close(x.grad, x.detach().clamp(max=0).exp())


def test_chunks_cover_every_class_once():
    for size in (0, 1, 3, 7, 50):
        covered = [i for part in class_chunks(7, size) for i in range(7)[part]]
        assert covered == list(range(7))


def test_sums_over_the_classes_are_exact_under_autocast():
    """Half precision would round what the output layer reads."""
    layer = ClassAttention(dim=8, text_dim=5, num_heads=2, mlp_ratio=2.0)
    read = []
    layer.out.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 4, 2, 3, 8), torch.randn(2, 4, 5))
    assert not torch.equal(read[0], read[0].bfloat16().float())
