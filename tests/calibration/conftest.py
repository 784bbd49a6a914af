"""The model that the tests of calibration share."""

import pytest
from calibration_material import two_event_model


@pytest.fixture(scope="module")
def model():
    return two_event_model()
