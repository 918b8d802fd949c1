"""Every data set gives the arrays that the rest of the package relies on, in the splits that its protocol asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realdata import datasets
from realdata.datasets import cifar_mnist, domain_net, office_home, terra_incognita, vlcs
from realdata.datasets.base import COPY, EVALUATE, FIT, LIKENESS, SUBSET, TEST, TRAIN, UNUSED, VALIDATION, ImageData
from realdata.datasets.dominoes import correlated_counts
from realdata.datasets.labelled import CIFAR_CLASSES, FASHION_CLASSES, idx_partitions
from support import standins


def write_vlcs(root: Path) -> Path:
    return standins.write_domains(root, "VLCS", vlcs.FOLDERS.environments, vlcs.FOLDERS.classes or ())


def write_office_home(root: Path) -> Path:
    environments = ("Art", "Clipart", "Product", "Real_World")  # As DomainBed's users often rename it.
    return standins.write_domains(root, "office_home", environments, office_home.CLASSES, 2, (6, 6))


def write_terra_incognita(root: Path) -> Path:
    folders = terra_incognita.FOLDERS
    return standins.write_domains(root, "terra_incognita", folders.environments, folders.classes or ())


def write_domain_net(root: Path) -> Path:
    return standins.write_domains(root, "domain_net", domain_net.FOLDERS.environments, ("aircraft", "axe", "zebra"))


WRITERS: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "celeba": (standins.write_celeba, {}),
    "waterbirds": (standins.write_waterbirds, {}),
    "cifar_mnist": (standins.write_cifar_mnist, {}),
    "fmnist_mnist": (standins.write_fmnist_mnist, {}),
    "colored_mnist": (standins.write_mnist, {"target": "-90%"}),
    "rotated_mnist": (standins.write_mnist, {"target": "30"}),
    "pacs": (standins.write_pacs, {"target": "sketch"}),
    "vlcs": (write_vlcs, {"target": "SUN09"}),
    "office_home": (write_office_home, {"target": "Real World"}),
    "terra_incognita": (write_terra_incognita, {"target": "location_38"}),
    "domain_net": (write_domain_net, {"target": "real"}),
    "table": (standins.write_own_table, {"file": "animals.csv", "label": "animal", "easy": "place"}),
    "folder": (standins.write_own_folders, {"title": "animals"}),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The root of the stand-in of a data set; written once, to be read only."""
    roots: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in roots:
            roots[name] = tmp_path_factory.mktemp(name)
            WRITERS[name][0](roots[name])
        return roots[name]

    return find


@pytest.fixture(scope="module")
def many_dominoes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR and MNIST with 50 training and 25 test images of each class, to be read only."""
    return standins.write_cifar_mnist(tmp_path_factory.mktemp("dominoes"), 50, 25)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_every_name_has_a_stand_in():
    assert set(WRITERS) == set(datasets.names())


@pytest.mark.parametrize("name", datasets.names())
def test_the_arrays_fit_together(name: str, written: Callable[[str], Path], cache: Path):
    data = datasets.load(name, written(name), WRITERS[name][1], cache=cache)
    count = len(data)
    assert data.name == name
    assert data.images.shape[0] == count > 0
    for values, names in (
        (data.label, data.label_names),
        (data.hard, data.hard_names),
        (data.group, data.group_names),
        (data.environment, data.environment_names),
        *([] if data.easy is None else [(data.easy, data.easy_names)]),
    ):
        assert values.shape == (count,)
        assert values.dtype == np.int64
        assert values.min() >= 0
        assert values.max() < len(names) == len(set(names))
    assert set(np.unique(data.split)) == {TRAIN, VALIDATION, TEST}
    assert data.split.dtype == data.probe_split.dtype == np.int8
    assert {FIT, EVALUATE} <= set(np.unique(data.probe_split)) <= {UNUSED, FIT, EVALUATE}
    assert not np.isin(data.probe_rows(FIT), data.rows(TRAIN)).any()
    assert len(data.mean) == len(data.std) == data.images.shape[1]
    rows = np.array([count - 1, 0, 0])
    batch = data.images[rows]
    assert batch.dtype == np.uint8
    assert batch.shape == (3, *data.images.shape[1:])
    assert (batch[1] == batch[2]).all()
    assert (data.images[np.arange(count)][rows] == batch).all()


@pytest.mark.parametrize("name", datasets.names())
def test_the_same_files_and_options_have_one_fingerprint(name: str, written: Callable[[str], Path], tmp_path: Path):
    root, options = written(name), WRITERS[name][1]
    first = datasets.load(name, root, options, cache=tmp_path / "one")
    again = datasets.load(name, root, options, cache=tmp_path / "other")
    assert first.fingerprint == again.fingerprint
    assert datasets.load(name, root, options, cache=tmp_path / "one", size=8).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", datasets.names())
def test_every_option_is_explained(name: str):
    declared = datasets.spec(name)
    assert set(declared.options_help) == {entry.name for entry in dataclasses.fields(declared.options)}
    assert bool(declared.environments) == ("target" in declared.options_help)


@pytest.mark.parametrize("name", [name for name, (_, options) in WRITERS.items() if "target" in options])
def test_a_target_is_the_test_set_and_no_other_environment_changes(
    name: str, written: Callable[[str], Path], cache: Path
):
    root, options = written(name), WRITERS[name][1]
    data = datasets.load(name, root, options, cache=cache)
    target = data.environment_names.index(options["target"])
    assert ((data.environment == target) == (data.split == TEST)).all()
    assert ((data.probe_split != UNUSED) == (data.split == TEST)).all()
    for place in range(len(data.environment_names)):
        rows = data.environment == place
        held = data.probe_split == EVALUATE if place == target else data.split == VALIDATION
        assert (rows & held).sum() == int(0.2 * rows.sum())
    other = data.environment_names[target - 1]
    moved = datasets.load(name, root, {"target": other}, cache=cache)
    unmoved = ~np.isin(data.environment, [target, target - 1 if target else len(data.environment_names) - 1])
    assert (moved.split[unmoved] == data.split[unmoved]).all()
    held_then, held_now = data.split == VALIDATION, moved.probe_split == EVALUATE
    assert (held_then[moved.split == TEST] == held_now[moved.split == TEST]).all()


@pytest.mark.parametrize("name", ["celeba", "waterbirds"])
def test_groups_are_label_and_attribute_as_in_group_dro(name: str, written: Callable[[str], Path], cache: Path):
    data = datasets.load(name, written(name), cache=cache)
    assert data.easy is not None
    assert (data.group == 2 * data.hard + data.easy).all()
    assert (data.hard == data.label).all()
    assert (data.attribute_group == data.group).all()
    counts = [np.bincount(data.group[data.split == split], minlength=4).tolist() for split in (0, 1, 2)]
    assert counts == [list(row) for row in standins.GROUPED_SPLITS]
    assert (data.probe_rows(FIT) == data.rows(VALIDATION)).all()
    assert (data.probe_rows(EVALUATE) == data.rows(TEST)).all()


@given(size=st.integers(1, 300), classes=st.integers(2, 10), correlation=st.floats(0, 1))
def test_correlated_pairs_use_every_class_and_digit_equally(size: int, classes: int, correlation: float):
    table = correlated_counts(size, classes, correlation)
    assert (table >= 0).all()
    assert (table.sum(0) == size).all()
    assert (table.sum(1) == size).all()
    assert (np.diag(table) == round(correlation * size)).all()
    off_diagonal = table[~np.eye(classes, dtype=bool)]
    assert off_diagonal.max() - off_diagonal.min() <= 1


def pairs(data: ImageData, split: int) -> np.ndarray:
    rows = data.rows(split)
    assert data.easy is not None
    classes = len(data.hard_names)
    return np.bincount(data.hard[rows] * classes + data.easy[rows], minlength=classes**2).reshape(classes, classes)


@pytest.mark.parametrize(("options", "classes"), [({}, 2), ({"classes": "all"}, 10), ({"classes": "cat,dog,ship"}, 3)])
@pytest.mark.parametrize("correlation", [1.0, 0.75, 0.0])
def test_dominoes_are_correlated_in_training_and_independent_elsewhere(
    options: dict[str, str], classes: int, correlation: float, many_dominoes: Path, cache: Path
):
    given = {**options, "correlation": correlation, "validation": 0.4}
    data = datasets.load("cifar_mnist", many_dominoes, given, cache=cache)
    assert (pairs(data, TRAIN) == correlated_counts(30, classes, correlation)).all()
    assert (pairs(data, VALIDATION) == 20 // classes).all()
    assert (pairs(data, TEST) == 25 // classes).all()
    assert (data.label == data.hard).all()


def test_a_domino_is_its_digit_above_its_photograph_and_no_image_is_used_twice(many_dominoes: Path, cache: Path):
    root = many_dominoes
    data = datasets.load("cifar_mnist", root, {"classes": "all", "correlation": 0.5, "validation": 0.4}, cache=cache)
    images = data.images[np.arange(len(data))]
    assert images.shape[1:] == (3, 64, 32)
    digits, labels, test, _ = idx_partitions(root, fashion=False)
    padded = np.pad(digits, ((0, 0), (2, 2), (2, 2)))
    place_of = {image.tobytes(): row for row, image in enumerate(padded)}
    used = [place_of[image[0, :32].tobytes()] for image in images]
    assert len(set(used)) == len(used)
    assert (images[:, 0, :32] == images[:, 2, :32]).all()
    assert (labels[used] == data.easy).all()
    assert (test[used] == (data.split == TEST)).all()
    below = np.unique(images[:, :, 32:].reshape(len(images), -1), axis=0)
    assert len(below) == len(images)
    colours = images[:, :, 34:62, 2:30].mean((2, 3))
    centres = np.stack([colours[data.hard == kind].mean(0) for kind in range(10)])
    nearest = np.linalg.norm(colours[:, None] - centres, axis=2).argmin(1)
    assert (nearest == data.hard).all()


def test_batches_and_class_folders_give_the_same_kind_of_dominoes(root: Path, cache: Path):
    standins.write_cifar_batches(root)
    standins.write_mnist(root, compressed=True)
    data = datasets.load("cifar_mnist", root, {"classes": "all", "validation": 0.5}, cache=cache)
    assert data.title == "CIFAR-MNIST (subset)"
    colours = data.images[np.arange(len(data))][:, :, 32:].mean((2, 3))
    for kind in range(10):
        expected = standins.photograph(kind, 10, (32, 32), np.random.default_rng(0)).mean((0, 1))
        assert np.allclose(colours[data.hard == kind], expected, atol=4)


def test_titles_and_differences_say_copy_subset_and_likeness(
    root: Path, written: Callable[[str], Path], cache: Path
):  # fmt: skip
    def told(name: str, place: Path, **options: str) -> tuple[str, tuple[str, ...]]:
        data = datasets.load(name, place, options, cache=cache)
        return data.title, data.differences

    dominoes = told("cifar_mnist", written("cifar_mnist"))
    assert dominoes == ("CIFAR-MNIST (JPEG copy, subset)", (COPY, SUBSET))
    standins.write_celeba(root)
    assert told("celeba", root) == ("CelebA subset (46 images)", (SUBSET,))
    standins.write_waterbirds(root)
    assert told("waterbirds", root) == ("Waterbirds-like (not the published set)", (LIKENESS,))
    standins.write_pacs(root, each=2)
    pacs = told("pacs", root, target="photo")
    assert pacs == ("PACS (56 of 9,991 images, copy at 16x16 pixels)", (SUBSET, COPY))
    standins.write_mnist(root)
    assert told("colored_mnist", root, target="-90%") == ("ColoredMNIST (subset: 300 images)", (SUBSET,))
    assert told("rotated_mnist", root, target="15") == ("RotatedMNIST (subset: 300 images)", (SUBSET,))


def test_fashion_dominoes(root: Path, cache: Path):
    standins.write_mnist(root)
    standins.write_mnist(root, fashion=True)
    data = datasets.load("cifar_mnist", root, {"bottom": "fashion_mnist"}, cache=cache)
    assert data.title == "FashionMNIST-MNIST (subset)"
    assert (data.hard_names, data.easy_names) == (("coat", "dress"), ("0", "1"))
    above = datasets.load(
        "cifar_mnist", root, {"top": "fashion_mnist", "bottom": "mnist", "digits": "4,bag"}, cache=cache
    )
    assert (above.hard_names, above.easy_names) == (("7", "9"), ("coat", "bag"))


@pytest.mark.parametrize("classes", [2, 5, 10])
@pytest.mark.parametrize("correlation", [1.0, 0.75])
def test_digits_above_items_of_the_same_number(
    classes: int, correlation: float, written: Callable[[str], Path], cache: Path
):
    root = written("fmnist_mnist")
    given = {"classes": classes, "correlation": correlation, "validation": 0.4}
    data = datasets.load("fmnist_mnist", root, given, cache=cache)
    assert data.title == "FashionMNIST-MNIST (subset)"
    assert data.hard_names == data.label_names == FASHION_CLASSES[:classes]
    assert data.easy_names == tuple("0123456789")[:classes]
    assert (data.label == data.hard).all()
    assert (pairs(data, TRAIN) == correlated_counts(30, classes, correlation)).all()
    assert (pairs(data, VALIDATION) == 20 // classes).all()
    assert (pairs(data, TEST) == 25 // classes).all()
    images = data.images[np.arange(len(data))]
    assert images.shape[1:] == (1, 64, 32)
    for fashion, rows, attribute in ((False, slice(0, 32), data.easy), (True, slice(32, 64), data.hard)):
        pictures, labels, test, _ = idx_partitions(root, fashion=fashion)
        place_of = {picture.tobytes(): row for row, picture in enumerate(pictures)}
        used = [place_of[image[0, rows][2:30, 2:30].tobytes()] for image in images]
        assert len(set(used)) == len(used)
        assert (labels[used] == attribute).all()
        assert (test[used] == (data.split == TEST)).all()


def test_grey_dominoes_with_three_channels_are_those_of_cifar_mnist(written: Callable[[str], Path], cache: Path):
    root = written("fmnist_mnist")
    one, three = (datasets.load("fmnist_mnist", root, {"channels": each}, cache=cache) for each in (1, 3))
    same = {"bottom": "fashion_mnist", "classes": "0,1,2,3,4"}
    chosen = datasets.load("cifar_mnist", root, same, cache=cache)
    rows = np.arange(len(one))
    assert (np.repeat(one.images[rows], 3, axis=1) == three.images[rows]).all()
    assert (three.images[rows] == chosen.images[rows]).all()
    assert (len(one.mean), len(three.mean)) == (1, 3)
    assert one.fingerprint != three.fingerprint


def test_fashion_mnist_as_debian_s_package_installs_it(root: Path, cache: Path):
    standins.write_fmnist_mnist(root)
    before = datasets.load("fmnist_mnist", root, cache=cache)
    (root / "FashionMNIST" / "raw").rename(root / "fashion-mnist")
    (root / "FashionMNIST").rmdir()
    assert datasets.load("fmnist_mnist", root, cache=cache).fingerprint == before.fingerprint


def test_blocks_have_the_size_that_was_asked_for(written: Callable[[str], Path], cache: Path):
    assert datasets.load("cifar_mnist", written("cifar_mnist"), cache=cache, size=16).images.shape[1:] == (3, 32, 16)


def test_examples_per_class_and_seed(written: Callable[[str], Path], cache: Path):
    root = written("cifar_mnist")
    few = datasets.load("cifar_mnist", root, {"examples_per_class": 5}, cache=cache)
    assert np.bincount(few.label[few.rows(TRAIN)]).tolist() == [5, 5]
    other = datasets.load("cifar_mnist", root, {"examples_per_class": 5, "seed": 1}, cache=cache)
    assert (few.images[few.rows(TRAIN)] != other.images[other.rows(TRAIN)]).any()
    assert few.fingerprint != other.fingerprint


def test_colored_mnist_has_domainbeds_noise(root: Path, cache: Path):
    standins.write_mnist(root, 900, 100)
    data = datasets.load("colored_mnist", root, {"target": "-90%"}, cache=cache)
    assert data.easy is not None
    assert data.images.shape == (10_000, 2, 28, 28)
    assert data.title == "ColoredMNIST (subset: 10,000 images)"
    flipped = (data.label != data.hard).mean()
    assert abs(flipped - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)
    for place, rate in enumerate((0.1, 0.2, 0.9)):
        rows = data.environment == place
        assert 3333 <= rows.sum() <= 3334
        # Five standard deviations of a binomial share.
        assert abs((data.easy != data.label)[rows].mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / rows.sum())
    images = data.images[np.arange(len(data))]
    rows = np.arange(len(data))
    assert (images[rows, 1 - data.easy] == 0).all()
    assert images[rows, data.easy].any((1, 2)).all()
    digits, labels, _, _ = idx_partitions(root, fashion=False)
    assert (images[rows, data.easy] == digits).all()
    assert (data.hard == (labels < 5)).all()


def test_rotated_mnist_turns_as_torchvision_does(root: Path, cache: Path):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.functional")
    from PIL import Image

    standins.write_mnist(root, 6, 3)
    data = datasets.load("rotated_mnist", root, {"target": "0"}, cache=cache)
    digits, labels, _, _ = idx_partitions(root, fashion=False)
    images = data.images[np.arange(len(data))]
    bilinear = functional.InterpolationMode.BILINEAR
    for row in range(len(data)):
        angle = 15 * int(data.environment[row])
        turned = functional.rotate(Image.fromarray(digits[row]), angle, interpolation=bilinear, fill=(0,))
        assert torch.equal(functional.pil_to_tensor(turned), torch.from_numpy(images[row]))
    assert (data.hard == labels).all()
    assert data.easy is None
    assert set(np.bincount(data.environment)) == {15}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pacs", {}, "option target of pacs is not given.*art_painting, cartoon, photo, sketch"),
        ("pacs", {"target": "paintings"}, "target='paintings' is not known; allowed: art_painting"),
        ("pacs", {"target": "photo", "holdout": 1.0}, "holdout=1.0; allowed"),
        ("pacs", {"target": "photo", "transform": "crop"}, "transform='crop' is not known; allowed: auto"),
        ("colored_mnist", {"target": "90"}, r"target='90' is not known; allowed: \+90%"),
        ("cifar_mnist", {"classes": "cat"}, "classes='cat'; allowed: 'all'"),
        ("cifar_mnist", {"classes": "cat,cat"}, "classes='cat,cat'; allowed"),
        ("cifar_mnist", {"classes": "cat,lion"}, "classes='cat,lion'; allowed.*airplane,automobile"),
        ("cifar_mnist", {"digits": "0,1,2"}, "digits='0,1,2' has 3 entries for 2 classes"),
        ("cifar_mnist", {"correlation": 1.5}, "correlation=1.5; allowed: a number from 0 to 1"),
        ("cifar_mnist", {"correlation": float("nan")}, "correlation=nan; allowed"),
        ("cifar_mnist", {"validation": 0.0}, "validation=0.0; allowed"),
        ("cifar_mnist", {"top": "svhn"}, "top='svhn' is not known; allowed: mnist, fashion_mnist"),
        ("cifar_mnist", {"colour": 1}, "option 'colour' is unknown to cifar_mnist; allowed: classes, digits"),
        ("fmnist_mnist", {"classes": 1}, "classes=1; allowed: a whole number from 2 to 10"),
        ("fmnist_mnist", {"classes": 11}, "classes=11; allowed: a whole number from 2 to 10"),
        ("fmnist_mnist", {"channels": 2}, "channels=2; allowed: 1 or 3"),
        ("fmnist_mnist", {"correlation": -1}, "correlation=-1.0; allowed: a number from 0 to 1"),
        ("celeba", {"label": "Male"}, "attribute='Male' is also the label"),
        ("celeb", {}, "data='celeb' is not known; allowed: celeba, waterbirds"),
    ],
)
def test_options_that_are_not_allowed(name: str, options: dict[str, str], message: str, root: Path):
    with pytest.raises(ValueError, match=message):
        datasets.load(name, root, options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_decode_error": "ignore"}, "on_decode_error='ignore' is not known; allowed: fatal, skip"),
        ({"size": 0}, "size=0; allowed: a whole number >= 1"),
    ],
)
def test_arguments_that_are_not_allowed(arguments: dict[str, object], message: str, root: Path):
    with pytest.raises(ValueError, match=message):
        datasets.load("celeba", root, **arguments)  # type: ignore[arg-type]


def test_a_root_that_is_no_folder(tmp_path: Path):
    with pytest.raises(ValueError, match=r"root='.*nowhere' is not a folder"):
        datasets.load("celeba", tmp_path / "nowhere")


def test_too_few_images_say_which(written: Callable[[str], Path], cache: Path):
    root = written("cifar_mnist")
    with pytest.raises(ValueError, match="too few images for 10 classes: the smallest class has 2 for validation"):
        datasets.load("cifar_mnist", root, {"classes": "all"}, cache=cache)


def test_another_celeba_attribute(root: Path, cache: Path):
    standins.write_celeba(root)
    data = datasets.load("celeba", root, {"label": "Male", "attribute": "Blond_Hair"}, cache=cache)
    assert (data.hard_names, data.easy_names) == (("female", "male"), ("not blond", "blond"))
    with pytest.raises(ValueError, match=r"label='Smiling' is not a column.*allowed: Blond_Hair, Male, Young"):
        datasets.load("celeba", root, {"label": "Smiling"}, cache=cache)


def test_cifar_classes_are_the_published_ones():
    assert cifar_mnist.Options().bottom_classes == ("automobile", "truck")
    assert tuple(sorted(CIFAR_CLASSES)) == CIFAR_CLASSES
    assert len(office_home.CLASSES) == 65
    assert tuple(sorted(office_home.CLASSES)) == office_home.CLASSES
