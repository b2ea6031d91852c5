"""What golden tests share."""

import pytest


@pytest.fixture(params=["torch", "ONNX Runtime"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 through each of the two that run it on a CPU."""
    if request.param != "torch":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr("engine.models.model.onnx_is_as_fast", lambda *_: request.param != "torch")
