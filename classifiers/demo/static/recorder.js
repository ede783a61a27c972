// The samples of the microphone's first channel, as they come.
class Recorder extends AudioWorkletProcessor {
  process(inputs) {
    const samples = inputs[0][0];
    if (samples) this.port.postMessage(samples.slice(0));
    return true;
  }
}
registerProcessor("ser-recorder", Recorder);
