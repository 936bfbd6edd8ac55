import math

import pytest

from ctnet.engine import RECIPES, Recipe, get_recipe
from ctnet.models import list_models


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "lr", "dropout", "weight_decay", "sampling"),
    [
        ("kinetics", 64, 110, 0.01, 0.5, 1e-4, "dense"),
        ("somethingv1", 64, 45, 0.02, 0.3, 5e-4, "sparse"),
        ("somethingv2", 64, 45, 0.02, 0.3, 5e-4, "sparse"),
    ],
)
def test_the_papers_recipes(name, batch, epochs, lr, dropout, weight_decay, sampling):
    recipe = get_recipe(name)
    assert (recipe.batch_size, recipe.epochs, recipe.lr, recipe.dropout) == (batch, epochs, lr, dropout)
    assert (recipe.weight_decay, recipe.sampling, recipe.momentum) == (weight_decay, sampling, 0.9)
    assert (recipe.warmup_epochs, recipe.clip_grad, recipe.size) == (10, 20, 256)
    assert (recipe.head_lr, recipe.frames) == (5, 16 if name == "kinetics" else 8)
    assert recipe.flip == (name == "kinetics")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_model(name):
    assert get_recipe(name).model in list_models()


def test_schedule_rises_linearly_then_falls_as_a_cosine():
    recipe = Recipe(epochs=50, warmup_epochs=10, lr=0.02)
    assert [recipe.lr_at(e) for e in (0, 5, 10)] == pytest.approx([0, 0.01, 0.02])
    assert recipe.lr_at(30) == pytest.approx(0.01)
    assert recipe.lr_at(20) == pytest.approx(0.02 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert recipe.lr_at(50) == pytest.approx(0)


@pytest.mark.parametrize(("batch", "peak"), [(64, 0.02), (512, 0.16), (8, 0.0025)])
def test_the_learning_rate_scales_with_the_batch(batch, peak):
    assert Recipe(batch_size=batch, lr=0.02).peak_lr == pytest.approx(peak)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("lr=1e-3", "lr", 0.001),
        ("lr=1", "lr", 1.0),
        ("clip_grad=null", "clip_grad", None),
        ("options={blocks: 4, sizes: [-1, 4]}", "options", {"blocks": 4, "sizes": [-1, 4]}),
        ("root=/a b/c", "root", "/a b/c"),
        ("root=", "root", ""),
        ("flip=true", "flip", True),
        ("short_side=[256, 320]", "short_side", [256, 320]),
        ("sampling=dense", "sampling", "dense"),
    ],
)
def test_any_field_can_be_changed_by_text(text, field, value):
    changed = Recipe().parse([text])
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)
    assert Recipe(**changed.to_dict()) == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_decy=1", "did you mean 'weight_decay'"),
        ("epochs=ten", "epochs='ten' does not fit: int is expected"),
        ("epochs=2.5", "int is expected"),
        ("epochs=true", "int is expected"),
        ("flip=1", "bool is expected"),
        ("sampling=random", "'sparse' or 'dense' is expected"),
        ("scales=[a]", "does not fit"),
        ("epochs=5", "10 epochs of warm-up do not fit into 5"),
        ("batch_size=0", "batch_size must be above 0"),
        ("epochs", "write field=value"),
        ("options={", "cannot read the value"),
    ],
)
def test_a_wrong_change_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        Recipe().parse([text])
    assert "\n" not in str(refused.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'kinetics'"):
        get_recipe("kinetic")
