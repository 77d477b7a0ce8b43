from __future__ import annotations

import pytest

from escnet_d2.weights import DEFAULT_NAMES, HubFile, WeightsError, WeightsFile, sources_of
from escnet_d2.weights.catalog import SAM_VIT_B, clip_sources
from escnet_d2.weights.checksum import is_sha256


def test_what_the_configs_need_is_verifiable():
    assert DEFAULT_NAMES == ("sam_vit_b", "clip_vit_b_16", "clip_vit_l_14_336")
    first = [sources_of(name)[0] for name in DEFAULT_NAMES]
    assert [source.name for source in first] == list(DEFAULT_NAMES)
    assert [source.filename for source in first] == [
        "sam_vit_b_01ec64.pth",
        "ViT-B-16.pt",
        "ViT-L-14-336px.pt",
    ]
    for source in first:
        assert is_sha256(source.sha256)
        (url,) = source.urls
        assert url.startswith("https://")
        assert url.endswith(f"/{source.filename}")
    assert SAM_VIT_B.size == 375042383


def test_openai_digests_come_from_the_address():
    (plain, hub) = clip_sources("ViT-B-16-quickgelu", "openai")
    assert plain.sha256 == "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    assert f"/{plain.sha256}/" in plain.urls[0]
    assert isinstance(hub, HubFile)


def test_both_spellings_of_a_model_share_a_file():
    spellings = [clip_sources(name, "openai")[0] for name in ("ViT-B-16", "ViT-B-16-quickgelu")]
    assert spellings[0].urls == spellings[1].urls


def test_a_repository_is_preferred_to_an_address_that_cannot_be_verified():
    hub, plain = clip_sources("ViT-B-16", "laion400m_e32")
    assert isinstance(hub, HubFile)
    assert plain.sha256 == "55e67d44"
    hub, plain = clip_sources("ViT-B-16", "metaclip_400m")
    assert isinstance(hub, HubFile)
    assert plain.sha256 == ""


def test_repository_files_are_read_as_open_clip_writes_them():
    (hub,) = clip_sources("ViT-B-16", "laion2b-s34b-b88k")
    assert hub.repo_id == "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
    assert hub.filenames == ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    (hub,) = clip_sources("ViTamin-B", "datacomp1b")
    assert hub.repo_id == "jienengchen/ViTamin-B"
    assert hub.filenames == ("pytorch_model.safetensors", "pytorch_model.bin")


def test_no_two_files_of_open_clip_share_a_name_in_the_cache():
    from open_clip.pretrained import list_pretrained

    addresses: dict[str, set[str]] = {}
    for model, tag in list_pretrained():
        sources = clip_sources(model, tag)
        assert sources, (model, tag)
        for source in sources:
            if isinstance(source, WeightsFile):
                addresses.setdefault(source.filename, set()).update(source.urls)
    assert addresses
    assert all(len(urls) == 1 for urls in addresses.values())


def test_names_of_the_command_line():
    assert sources_of("ViT-B-16:openai")[0].name == "ViT-B-16:openai"
    with pytest.raises(WeightsError, match="sam_vit_b, clip_vit_b_16, clip_vit_l_14_336"):
        sources_of("sam")
    with pytest.raises(WeightsError, match="accepted: .*laion400m_e32.*openai"):
        sources_of("ViT-B-16:none")
    with pytest.raises(WeightsError, match="no pre-trained weights for the model 'escnet_tiny'"):
        sources_of("escnet_tiny:openai")
