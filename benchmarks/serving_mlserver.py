"""The graph as a runtime of MLServer, whose environment alone imports this."""

import onnxruntime as ort
from mlserver import MLModel, types  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]


class Graph(MLModel):  # type: ignore[misc]
    """An ONNX graph on one thread; tensors in, tensors out."""

    async def load(self) -> bool:
        """Open the graph that the model's settings name, with the outputs to answer."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        given = self.settings.parameters
        self._session = ort.InferenceSession(given.uri, options, providers=["CPUExecutionProvider"])
        self._outputs = given.outputs
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """The outputs for the one input."""
        sent = payload.inputs[0]
        window = NumpyCodec.decode_input(sent).reshape(sent.shape)
        found = self._session.run(self._outputs, {sent.name: window})
        outputs = [
            NumpyCodec.encode_output(name, values) for name, values in zip(self._outputs, found, strict=True)
        ]
        return types.InferenceResponse(model_name=self.name, outputs=outputs)
