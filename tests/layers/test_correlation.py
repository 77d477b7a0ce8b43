import math

import pytest
import torch

from escnet_d2.layers import image_text_correlation


def test_equals_a_plain_loop():
    image, text = torch.randn(2, 5, 3, 4), torch.randn(6, 2, 5)
    result = image_text_correlation(image, text)
    assert result.shape == (2, 2, 6, 3, 4)
    for b in range(2):
        for p in range(2):
            for k in range(6):
                for y in range(3):
                    for x in range(4):
                        v, t = image[b, :, y, x].tolist(), text[k, p].tolist()
                        dot = sum(i * j for i, j in zip(v, t))
                        norms = math.hypot(*v) * math.hypot(*t)
                        assert result[b, p, k, y, x].item() == pytest.approx(dot / norms, abs=1e-6)


def test_text_of_each_image():
    image, text = torch.randn(2, 5, 3, 4), torch.randn(2, 6, 1, 5)
    result = image_text_correlation(image, text)
    for b in range(2):
        torch.testing.assert_close(result[b], image_text_correlation(image[b : b + 1], text[b])[0])


def test_stays_in_float32_under_autocast():
    image, text = torch.randn(1, 64, 3, 4), torch.randn(2, 1, 64)
    with torch.autocast("cpu", torch.bfloat16):
        result = image_text_correlation(image, text)
    torch.testing.assert_close(result, image_text_correlation(image, text), rtol=0, atol=0)
