"""The arithmetic of the encoder `functionals`: a waveform -> contours -> functionals of each contour, in torch.

    pitch          pitch and periodicity of each frame
    contours       all contours of a waveform, and the weights of its frames
    functionals    numbers that describe a contour of any length, and their names
    tensors        what the three share

The same functions compute the vectors and are exported as one ONNX graph, so they use no operation whose result has a
size that depends on values: silence is left out by weights of 0, not by cutting.
"""
