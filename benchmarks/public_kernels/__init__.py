"""Public kernels of floating-point analysis as rows of data, and what is written from a row: an ONNX model, a Gappa script."""
