import torch

from ctnet.models.peers.eco import ECOLite, Residual3d


def test_eco_gives_frames_of_an_eighth_to_the_3d_network_which_halves_all_sizes_twice():
    model = ECOLite(num_classes=5).eval()
    with torch.no_grad():
        assert model.net2d(torch.zeros(2, 3, 64, 48)).shape == (2, 96, 8, 6)
        assert model.forward_features(torch.zeros(1, 3, 8, 64, 64)).shape == (1, 512, 2, 2, 2)
        assert Residual3d(8, 16)(torch.zeros(1, 8, 4, 6, 8)).shape == (1, 16, 2, 3, 4)
        assert Residual3d(8, 8)(torch.zeros(1, 8, 4, 6, 8)).shape == (1, 8, 4, 6, 8)
