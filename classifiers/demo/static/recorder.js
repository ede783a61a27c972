// Posts the samples of the microphone's first channel, at the sample rate of the audio context. The server resamples.
class Recorder extends AudioWorkletProcessor {
  process(inputs) {
    const samples = inputs[0][0];
    if (samples) this.port.postMessage(samples.slice(0));
    return true;
  }
}
registerProcessor("ser-recorder", Recorder);
