"""The operations of ONNX that are read, each a lowering to primitives; one file per kind."""
