"""The bound on clips in work."""

import pytest

from services.speech.admission import Admission
from shared.errors import ResourceExhausted


def test_one_more_than_allowed_is_refused_and_places_come_back():
    admission = Admission(2)
    with admission.admit():
        with admission.admit(), pytest.raises(ResourceExhausted, match="clips in work"), admission.admit():
            pass
        with admission.admit():
            pass


def test_a_place_comes_back_after_a_failure():
    admission = Admission(1)
    with pytest.raises(KeyError), admission.admit():
        raise KeyError
    with admission.admit():
        pass
