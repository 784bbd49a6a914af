"""The head over frames: what it sees of a window, and that order counts."""

from __future__ import annotations

import torch

from touchline.models.networks.cnn_lstm import LSTMHead


def test_the_head_sees_the_mean_of_states_and_of_features() -> None:
    torch.manual_seed(0)
    head = LSTMHead(width=6, hidden=4, num_classes=3, dropout=0.5).eval()
    features = torch.randn(2, 6, 5)
    with torch.no_grad():
        states = head.lstm(features.transpose(1, 2))[0]
        of_states, of_features = head.linear.weight[:, :4], head.linear.weight[:, 4:]
        by_hand = (
            states.mean(dim=1) @ of_states.T + features.mean(dim=2) @ of_features.T
        ) + head.linear.bias
        torch.testing.assert_close(head(features), by_hand)


def test_order_counts_through_the_lstm_alone() -> None:
    torch.manual_seed(0)
    head = LSTMHead(width=6, hidden=4, num_classes=3, dropout=0.5).eval()
    features = torch.randn(2, 6, 5)
    with torch.no_grad():
        assert not torch.allclose(head(features), head(features.flip(2)), atol=1e-4)
        head.linear.weight[:, :4] = 0
        torch.testing.assert_close(head(features), head(features.flip(2)))
