import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_mini_kinetics_is_trained_as_kinetics_is_on_8_frames():
    assert get_recipe("mini-kinetics") == get_recipe("kinetics").override({"dataset": "mini-kinetics", "frames": 8})


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_small_datasets_are_fine_tuned_as_the_deviations_say(name):
    recipe = get_recipe(name)
    changed = {"dataset": name, "init": "kinetics.safetensors", "epochs": 25, "lr": 0.005, "dropout": 0.8}
    assert recipe == get_recipe("kinetics").override(changed | {"warmup_epochs": 0})
    assert (recipe.frames, recipe.sampling, recipe.size) == (16, "dense", 256)
    told = (Path(__file__).parents[2] / "book" / "deviations.md").read_text()
    assert "fine-tuning on UCF101 and HMDB51" in told
    assert "25 epochs, rate 0.005, dropout 0.8" in told


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_model(name):
    assert get_recipe(name).model in list_models()


def test_schedule_rises_linearly_then_falls_as_a_cosine():
    recipe = Recipe(epochs=50, warmup_epochs=10, lr=0.02)
    assert [recipe.lr_at(e) for e in (0, 5, 10)] == pytest.approx([0, 0.01, 0.02])
    assert recipe.lr_at(30) == pytest.approx(0.01)
    assert recipe.lr_at(20) == pytest.approx(0.02 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert recipe.lr_at(50) == pytest.approx(0)


def test_schedule_may_stay_at_its_peak_and_fall_in_a_line_at_the_end():
    recipe = Recipe(epochs=50, warmup_epochs=10, decay_epochs=20, lr=0.02)
    assert [recipe.lr_at(e) for e in (0, 5, 10, 20, 30)] == pytest.approx([0, 0.01, 0.02, 0.02, 0.02])
    assert [recipe.lr_at(e) for e in (35, 45, 50)] == pytest.approx([0.015, 0.005, 0])


def test_warm_up_and_decay_fit_into_the_epochs():
    assert Recipe(epochs=3, warmup_epochs=1, decay_epochs=2).lr_at(1) == Recipe().lr
    with pytest.raises(ValueError, match="1 epochs of warm-up and 2.5 of decay do not fit into 3 epochs"):
        Recipe(epochs=3, warmup_epochs=1, decay_epochs=2.5)


@pytest.mark.parametrize(("batch", "peak"), [(64, 0.02), (512, 0.16), (8, 0.0025)])
def test_the_learning_rate_scales_with_the_batch(batch, peak):
    assert Recipe(batch_size=batch, lr=0.02).peak_lr == pytest.approx(peak)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=1e-3", 0.001),
        ("lr=1", 1.0),
        ("seed=010", 10),
        ("clip_grad=null", None),
        (
            "options={blocks: 4, sizes: [-1, 010], gain: 1e-4, day: 2024-01-01}",
            {"blocks": 4, "sizes": [-1, 10], "gain": 0.0001, "day": "2024-01-01"},
        ),
        ("root=/a b/c", "/a b/c"),
        ("root=/data/set #2", "/data/set #2"),
        ("root=2024", "2024"),
        ("root={a: 1}", "{a: 1}"),
        ("root=a=b", "a=b"),
        ('root="/a b/010"', "/a b/010"),
        ("root='", "'"),
        ('sampling="dense"', "dense"),
        ("root=", ""),
        ("flip=true", True),
        ("short_side=[256, 320]", [256, 320]),
        ("scales=[1, 0.5]", [1, 0.5]),
        ("sampling=dense", "dense"),
    ],
)
def test_any_field_can_be_changed_by_text(text, value):
    changed = Recipe().parse([text])
    found = getattr(changed, text.partition("=")[0])
    assert found == value
    assert type(found) is type(value)
    assert Recipe(**changed.to_dict()) == changed


def test_what_is_written_as_data_is_read_as_such_again():
    for name, recipe in RECIPES.items():
        texts = [
            f"{field}={value if isinstance(value, str) else json.dumps(value)}"
            for field, value in recipe.override({"seed": 10**18}).to_dict().items()
        ]
        assert json.dumps(Recipe().parse(texts).to_dict()) == json.dumps(recipe.override({"seed": 10**18}).to_dict()), (
            name
        )


COUNTS = ["frames", "fold", "window", "size", "epochs", "batch_size", "eval_every", "save_every"]
MAYBE = ["train_clips", "val_clips", "test_size", "clips_per_device"]
OUTSIDE = (
    [f"{name}={value}" for name in COUNTS for value in ("0", "-1", "1.5", "true", "null", "ten", "")]
    + [f"{name}={value}" for name in MAYBE for value in ("0", "-3", "2.5", "[1]", "")]
    + [f"{name}={value}" for name in ("lr", "head_lr", "clip_grad") for value in ("0", "-1", "-1e-9", "1e999", "")]
    + [f"{name}={value}" for name in ("warmup_epochs", "weight_decay", "mixup") for value in ("-0.1", "1e999")]
    + [f"{name}={value}" for name in ("momentum", "dropout", "label_smoothing", "ema") for value in ("-0.1", "1", "2")]
    + [f"difficulty={value}" for value in ("-0.1", "1.1")]
    + [f"{name}={value}" for name in ("seed", "workers") for value in ("-1", "0.5", "null")]
    + [f"seed={2**63}"]
    + [f"short_side={value}" for value in ("0", "[]", "[256, 0]", "[256, a]", "null", "256.0", "{}")]
    + [f"scales={value}" for value in ("[]", "[0]", "[1.5]", "[-1]", "[a]", "1", "[.nan]")]
    + [f"options={value}" for value in ("[]", "{1: 2}", "a", "null")]
    + [
        f"{name}={value}"
        for name in ("flip", "sync_bn", "tensorboard", "keep_best")
        for value in ("1", "null", "maybe", "")
    ]
    + [f"{name}={value}" for name in ("sampling", "missing", "precision", "freeze_bn") for value in ("", "0", "None")]
)


@pytest.mark.parametrize("text", OUTSIDE)
def test_every_field_has_a_range(text):
    with pytest.raises(ValueError, match="does not fit: .* is expected") as refused:
        Recipe().parse([text])
    assert str(refused.value).startswith(text.partition("=")[0])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_infinite_or_none(value):
    for name, now in (
        Recipe(train_clips=1, val_clips=1, difficulty=1.0, test_size=1, clips_per_device=1).to_dict().items()
    ):
        if isinstance(now, int | float | list):
            with pytest.raises(ValueError, match=f"{name}=.* does not fit"):
                Recipe(**{name: [value] if isinstance(now, list) else value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_decy=1", "did you mean 'weight_decay'"),
        ("LR=1", "did you mean 'lr'"),
        ("epochs=ten", "epochs='ten' does not fit: a whole number from 1 is expected"),
        ("flip=1", "true or false is expected"),
        ("sampling=random", "'sparse' or 'dense' is expected"),
        ("clip_grad=0", "a number above 0, or null, which turns it off, is expected"),
        ("short_side=[]", "a whole number from 1 or a list of such is expected"),
        ("epochs=5", "10 epochs of warm-up do not fit into 5"),
        ("scales=null", "size=256 cannot be cropped from short_side=128"),
        ("scales=[1, 0.007]", "crop less than a pixel of short_side=128"),
        ("epochs", "write field=value"),
        ("options={", "cannot read the value"),
        ("options=" + "[" * 5000, "cannot read the value"),
        ("options=!!python/object:os.system", "cannot read the value"),
        ("seed=" + "1" * 5000, "cannot read the value"),
    ],
)
def test_a_wrong_change_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        Recipe(short_side=128).parse([text])
    assert "\n" not in str(refused.value)


def test_a_dense_clip_fits_into_its_window_or_is_refused():
    dense = Recipe(sampling="dense", frames=16, window=16)
    with pytest.raises(ValueError, match="window=15 cannot hold frames=16: raise window"):
        dense.override({"window": 15})
    assert dense.override({"window": 15, "sampling": "sparse"}).window == 15


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'kinetics'"):
        get_recipe("kinetic")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_recipe_is_read_as_any_shell_or_editor_writes_it(encoding, tmp_path):
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"root": "/données"}, ensure_ascii=False), encoding=encoding)
    assert get_recipe(str(path)).root == "/données"


def test_a_recipe_is_read_from_what_is_shown_of_it(tmp_path):
    file, recipe = tmp_path / "mine.json", get_recipe("kinetics").override({"options": {"sizes": 3}})
    file.write_text(json.dumps(recipe.to_dict()))
    assert get_recipe(str(file)) == recipe
    file.write_text('{"lr": 0.1}')
    assert get_recipe(str(file)) == Recipe(lr=0.1)
    for content, message in (
        ("[]", "fields with values"),
        ("{", "holds no recipe"),
        ('{"lrr": 1}', "did you mean 'lr'"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            get_recipe(str(file))
    with pytest.raises(FileNotFoundError, match="none.json: no such file of a recipe"):
        get_recipe("none.json")


@pytest.mark.parametrize("options", [{"blocks": {"layer3": range(1, 2)}}, {"sizes": np.int64(3)}])
def test_options_that_no_file_could_hold_are_refused_at_once(options):
    with pytest.raises(ValueError, match="options=.* does not fit"):
        Recipe(options=options)


FIELDS = st.sampled_from([*Recipe().to_dict(), "lrr", ""])


NUMBERS = st.floats().map(str) | st.integers().map(str)


@settings(deadline=None)
@given(FIELDS, NUMBERS | st.text() | st.sampled_from(["[1, 2]", "{a: [1]}", "null"]))
def test_any_assignment_gives_a_recipe_or_one_line(name, value):
    changed, message = None, "one line"
    try:
        changed = Recipe().parse([f"{name}={value}"])
    except ValueError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert changed is None or Recipe(**json.loads(json.dumps(changed.to_dict()))) == changed
