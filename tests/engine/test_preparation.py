import re

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from trained import same, train_until, weights

import ctnet
from ctnet.engine import Place, get_recipe, load_model, preparation, train
from ctnet.engine.checkpoint import load_init, read_about, save_model
from ctnet.engine.preparation import build_model, choose_precision, exact_fp32, recompute_activations, seed_step, where
from ctnet.engine.run import Run
from ctnet.engine.training import train_step
from ctnet.models import CTModule


def test_frozen_parts_stay_and_the_rest_learns(whole, tiny, tmp_path):
    start = str(whole / "model.safetensors")
    recipe = tiny.override(
        {"epochs": 1, "init": start, "freeze": ["backbone.conv1", "backbone.bn1", "backbone.layer1"]}
    )
    train(recipe, tmp_path, progress=False)
    before, after = load_model(start).state_dict(), load_model(tmp_path / "model.safetensors").state_dict()
    kept = {name for name, value in after.items() if torch.equal(value, before[name])}
    frozen = {name for name in after if name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))}
    assert kept == frozen
    train_until(3, recipe.override({"save_every": 2}), tmp_path / "resumed")
    train(recipe, tmp_path / "resumed", progress=False)
    assert same(weights(tmp_path / "resumed"), weights(tmp_path))
    for parts, message in (
        (["backbone.layer9"], "did you mean 'backbone.layer"),
        (["backbone", "head"], "nothing to train"),
    ):
        with pytest.raises(ValueError, match=message):
            train(recipe.override({"freeze": parts}), tmp_path / "other", progress=False)


def test_what_is_random_in_a_step_is_its_own():
    drawn = set()
    for step in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)):  # seed, step, process
        seed_step(*step)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 4


def first_step(recipe, folder):
    training = Run(recipe, folder, Place(torch.device("cpu")), resume=False)
    train_step(training, 0, training.start_epoch())


def test_blocks_are_computed_twice_where_activations_are_not_kept(tiny, tmp_path, monkeypatch):
    calls, convolve = [], torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda *inputs: calls.append(None) or convolve(*inputs))
    first_step(tiny, tmp_path / "kept")
    kept = len(calls)
    first_step(tiny.override({"activation_checkpointing": True}), tmp_path / "again")
    assert kept < 0.6 * (len(calls) - kept), "all but the stem"


def test_a_network_is_compiled_by_the_backend_that_is_named(tiny, tmp_path, monkeypatch):
    asked, compiled = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, backend: asked.append(backend) or compiled(model, backend=backend)
    )
    first_step(tiny.override({"compile": "eager"}), tmp_path)
    assert asked == ["eager"]


def test_networks_whose_blocks_are_not_known_keep_their_activations():
    with pytest.raises(ValueError, match="does not know the blocks of Linear: leave it out"):
        recompute_activations(torch.nn.Linear(2, 2))


def test_recomputed_activations_change_nothing(tiny):
    torch.manual_seed(0)
    plain = ctnet.create_model("ctnet_r50_twin", num_classes=5).train()
    saving = ctnet.create_model("ctnet_r50_twin", num_classes=5).train()
    saving.load_state_dict(plain.state_dict())
    recompute_activations(saving)
    clip = torch.randn(2, 3, 4, 16, 16)
    for model in (plain, saving):
        torch.manual_seed(1)
        model(clip).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)


@pytest.mark.parametrize("which", ["none", "partial", "all"])
def test_frozen_batch_normalisation_keeps_its_statistics(which, tiny, tmp_path):
    train(tiny.override({"freeze_bn": which, "epochs": 1, "model": "ctnet_r26_twin"}), tmp_path, progress=False)
    trained = weights(tmp_path)
    means = {name: value for name, value in trained.items() if name.endswith("running_mean")}
    kept = {name for name, value in means.items() if bool((value == 0).all())}
    # Offsets begin at 0, as means do, and all of them would be learnt.
    offsets = {name for name in means if bool((trained[name.replace("running_mean", "bias")] == 0).all())}
    assert offsets == kept
    first = next(iter(means))
    new = {name for name in means if ".module." in name}  # in CT-Modules
    assert 0 < len(new) < len(means) - 1
    assert kept == {"none": set(), "partial": means.keys() - new - {first}, "all": means.keys()}[which]


def test_testing_is_in_full_precision_unless_told_otherwise():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, testing=True) == torch.float32
    assert choose_precision("bf16", cpu, testing=True) == torch.bfloat16


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [
        ("cuda", {"bf16": True}, torch.bfloat16),
        ("cuda", {"bf16": False}, torch.float16),
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"amx_bf16": True}, torch.bfloat16),
        ("cpu", {"avx2": True, "avx512_bf16": False}, torch.float32),
    ],
    ids=str,
)
def test_the_fastest_precision_is_one_that_the_hardware_multiplies(device, able, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able.get("bf16", False))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert choose_precision("auto", torch.device(device)) == expected
    assert choose_precision("auto", torch.device(device), testing=True) == torch.float32
    assert choose_precision("fp32", torch.device(device)) == torch.float32


@pytest.fixture
def precisions():
    """What torch multiplies fp32 in, of all and of each operator; put back behind the test."""
    backends = torch.backends
    operators = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)

    def read():
        return [backends.fp32_precision, *(operator.fp32_precision for operator in operators)]

    before = read()
    yield read
    backends.fp32_precision = before[0]
    torch.set_float32_matmul_precision("highest")
    for operator, precision in zip(operators, before[1:], strict=True):
        operator.fp32_precision = precision


@pytest.mark.parametrize("of_all", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("products", [None, "highest", "high", "medium"])
def test_fp32_is_exact_within_and_as_before_behind_whatever_a_program_has_set(of_all, products, precisions):
    torch.backends.fp32_precision = of_all
    if products:
        torch.set_float32_matmul_precision(products)
    before = precisions()
    with exact_fp32():
        assert "tf32" not in precisions()
        assert torch.get_float32_matmul_precision() == "highest"  # compilers ask for it
        assert not torch.backends.cudnn.allow_tf32
    assert precisions() == before
    if products and of_all == "none":
        assert torch.get_float32_matmul_precision() == products
    if of_all == "tf32":
        torch.backends.fp32_precision = "ieee"
        assert "tf32" not in precisions()  # what followed goes on following


@pytest.mark.parametrize("set_apart", [False, True], ids=["as torch starts", "set apart"])
def test_gpus_multiply_fp32_in_full_while_a_network_trains_and_is_tested(set_apart, tiny, tmp_path):
    """Seen by its forward passes and, after the backward pass, by the optimizer's steps."""
    backends = torch.backends
    operators = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    first = [operator.fp32_precision for operator in operators]
    if set_apart:
        backends.cudnn.rnn.fp32_precision, backends.cuda.matmul.fp32_precision = "ieee", "tf32"
    before = [operator.fp32_precision for operator in operators]
    seen: dict[str, set[bool]] = {"training": set(), "testing": set(), "a step": set()}

    def note(what: str) -> None:
        with backends.cudnn.flags(allow_tf32=False):  # as a module may do, torch being able to tell the switches
            pass
        seen[what] |= {backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32}

    hooks = (
        register_module_forward_hook(lambda module, *_: note("training" if module.training else "testing")),
        register_optimizer_step_post_hook(lambda *_: note("a step")),
    )
    assert "tf32" in before, "convolutions lose 13 bits where nothing is said"
    try:
        train(tiny.override({"epochs": 1, "warmup_epochs": 1}), tmp_path, progress=False)
        assert [operator.fp32_precision for operator in operators] == before
    finally:
        for hook in hooks:
            hook.remove()
        for operator, precision in zip(operators, first, strict=True):
            operator.fp32_precision = precision
    assert seen == {key: {False} for key in seen}


@pytest.mark.parametrize(
    ("gpus", "local", "place", "line"),
    [
        (0, None, Place(torch.device("cpu")), "training on the CPU in bf16"),
        (0, "2", Place(torch.device("cpu"), 1, 2), "training on the CPU in bf16, 2 processes together"),
        (1, None, Place(torch.device("cuda", 0)), "training on Fast in bf16"),
        (
            8,
            None,
            Place(torch.device("cuda", 0)),
            "training on Fast in bf16; 7 of 8 GPUs idle: torchrun --nproc-per-node 8 uses all",
        ),
        (8, "8", Place(torch.device("cuda", 3), 3, 16), "training on Fast in bf16, 16 processes together"),
        (8, None, Place(torch.device("cuda", 3), 3, 8), "training on Fast in bf16, 8 processes together"),
    ],
)
def test_a_run_tells_what_it_trains_on(gpus, local, place, line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert where(place, torch.bfloat16) == line


@pytest.mark.parametrize(("init", "asked"), [("imagenet", "imagenet"), ("none", None)])
def test_a_recipe_asks_for_the_weights_that_it_names(init, asked, tiny, monkeypatch):
    found, create = [], preparation.create_model

    def created(*arguments, weights, **options):
        found.append(weights)
        return create(*arguments, **options)

    monkeypatch.setattr(preparation, "create_model", created)
    build_model(tiny.override({"init": init}), ["a", "b"])
    assert found == [asked]


def saved(path, name="tsn_r50_twin", classes=("a", "b")):
    torch.manual_seed(5)
    model = ctnet.create_model(name, num_classes=len(classes))
    save_model(path, model, list(classes))
    return model


def test_a_video_network_starts_from_a_network_for_pictures(tmp_path):
    source = saved(tmp_path / "pictures.safetensors")
    model = ctnet.create_model("ctnet_r50_twin", num_classes=3)
    head = model.head.weight.clone()
    told = load_init(tmp_path / "pictures.safetensors", model, ["x", "y", "z"])
    assert torch.equal(model.backbone.layer3[2].conv2.weight, source.backbone.layer3[2].conv2.weight)
    assert torch.equal(model.head.weight, head)
    share, _, rest = told.partition("% of the weights are those of ")
    new = {name for name, part in model.named_modules() if isinstance(part, CTModule)}
    values = sum(p.numel() for name in new for p in model.get_submodule(name).state_dict().values())
    of_all = sum(value.numel() for value in model.state_dict().values())
    assert float(share) == pytest.approx(100 - 100 * (values + model.head.weight.numel() + 3) / of_all, abs=0.06)
    assert re.search(r"not backbone\.layer1\.1\.conv2.* and \d+ more; name was 'tsn_r50_twin' and is 'ctnet_", rest)


def test_options_that_networks_do_not_share_are_told(tmp_path):
    source = ctnet.create_model("ctnet_r50_twin", num_classes=2, connection="serial")
    save_model(tmp_path / "serial.safetensors", source, ["a", "b"])
    told = load_init(tmp_path / "serial.safetensors", ctnet.create_model("ctnet_r50_twin", num_classes=2), ["a", "b"])
    assert re.fullmatch(r"100.0% of the weights are those of .*; connection was 'serial' and is 'unset'", told)


@pytest.mark.parametrize(("classes", "kept"), [(["a", "b"], True), (["b", "a"], False)])
def test_a_head_is_kept_for_the_same_classes_only(classes, kept, tmp_path):
    source = saved(tmp_path / "source.safetensors")
    model = ctnet.create_model("tsn_r50_twin", num_classes=2)
    load_init(tmp_path / "source.safetensors", model, classes)
    assert torch.equal(model.head.weight, source.head.weight) == kept


def test_weights_of_another_network_are_refused(tmp_path):
    saved(tmp_path / "source.safetensors", "tsn_r50")
    with pytest.raises(ValueError, match="is of tsn_r50 and shares only"):
        load_init(tmp_path / "source.safetensors", ctnet.create_model("tsn_r50_twin", num_classes=2), ["a", "b"])


@pytest.mark.parametrize("options", [{"sizes": "abc"}, {"sizes": 2.5}, {"blocks": 3.5}, {"dropout": 0.3}])
def test_options_that_a_network_cannot_have_are_named(options, tiny):
    recipe = tiny.override({"model": "ctnet_r50_twin", "options": options})
    with pytest.raises(ValueError, match=f"^ctnet_r50_twin cannot have options={re.escape(str(options))}: "):
        build_model(recipe, ["a", "b"])


def test_weights_that_are_not_there_are_asked_for(tiny, tmp_path):
    """As those of the recipes for UCF101 and HMDB51, which nobody but the user has."""
    recipe = tiny.override({"init": get_recipe("ucf101").init})
    with pytest.raises(FileNotFoundError, match="no weights at kinetics.safetensors to start from: give init=FILE"):
        train(recipe, tmp_path, progress=False)


def test_a_file_of_half_the_size_scores_almost_the_same(tmp_path):
    model = saved(tmp_path / "full.safetensors").eval()
    save_model(tmp_path / "half.safetensors", model, ["a", "b"], dtype=torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    clip = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "half.safetensors")(clip), model(clip), rtol=0.02, atol=1e-3)


def test_the_description_can_be_read_without_the_weights(whole):
    about = read_about(whole / "model.safetensors")
    assert about["config"]["name"] == "tsn_r26_twin"
    assert about["recipe"]["size"] == 16
