// Samples of the microphone as 16 bits, and as a WAV file.
export function toPcm16(blocks) {
  const samples = new Int16Array(blocks.reduce((length, block) => length + block.length, 0));
  const scale = (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x)));
  let index = 0;
  for (const block of blocks) for (const x of block) samples[index++] = scale(x);
  return samples;
}

export function toWav(samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const setText = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  setText(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  setText(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true); // bytes a second
  header.setUint16(32, 2, true); // bytes a frame
  header.setUint16(34, 16, true); // bits a sample
  setText(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}
