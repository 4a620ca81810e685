"""Training only: labels, model families, ensemble, calibration, ONNX export and the registry."""
