import pytest
import torch
from networks import tiny


def test_tsn_ignores_the_order_of_frames_and_ctnet_does_not():
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        tsn, ctnet_model = tiny("tsn_r50_twin"), tiny()
        torch.testing.assert_close(tsn(clip), tsn(clip.flip(2)))
        assert not torch.allclose(ctnet_model(clip), ctnet_model(clip.flip(2)), atol=1e-4)


def test_tsn_is_the_mean_of_the_frames_scores():
    model = tiny("tsn_r50_twin")
    clip = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        frames = torch.stack([model(clip[:, :, [t]]) for t in range(3)])
        torch.testing.assert_close(model(clip), frames.mean(0), rtol=1e-4, atol=1e-5)


def test_clips_in_a_batch_do_not_mix():
    model, clips = tiny(), torch.randn(3, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clips)[1:2], model(clips[1:2]), rtol=1e-4, atol=1e-5)


def test_features_and_head_compose_to_forward():
    model, clip = tiny(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = model.forward_features(clip)
        assert features.shape == (2, 512, 4, 2, 2)
        torch.testing.assert_close(model.forward_head(features), model(clip))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_memory_format_of_the_input_does_not_matter(memory_format):
    model, clip = tiny(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected = model(clip)
        torch.testing.assert_close(model(clip.to(memory_format=memory_format)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (2, 8, 3, 32, 32), (2, 3, 32, 32)])
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected clips of shape \(N, 3, T, H, W\)"):
        tiny()(torch.zeros(shape))


FEWER = {"blocks": 1}  # modules are all alike, and each costs torch's compiler seconds


@pytest.mark.parametrize(("name", "options"), [("ctnet_r50_twin", FEWER), ("tsm_r50_twin", {})])
def test_one_exported_program_serves_any_batch_and_any_number_of_frames(name, options):
    model, any_number = tiny(name, **options), torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(2, 3, 4, 32, 32),), dynamic_shapes={"x": {0: any_number, 2: any_number}}
        )
        for clips, frames in ((1, 4), (3, 7)):
            batch = torch.randn(clips, 3, frames, 32, 32)
            torch.testing.assert_close(program.module()(batch), model(batch), rtol=1e-4, atol=1e-5)


def test_the_whole_network_compiles_to_one_graph():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    model, clip = tiny(**FEWER), torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        scores = torch.compile(model, backend=count, fullgraph=True)(clip)
    assert len(graphs) == 1
    torch.testing.assert_close(scores, model(clip), rtol=1e-4, atol=1e-5)


def test_a_pass_leaves_no_trace_in_the_network():
    model = tiny()
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    with torch.no_grad():
        model(torch.randn(1, 3, 4, 32, 32))
    after = {name: dict(module.__dict__) for name, module in model.named_modules()}
    assert before == after
