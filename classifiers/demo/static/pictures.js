// Pictures of a recording on canvases: its waveform, and its spectrogram up to half the sample rate.
const FFT = 512; // samples of a frame of the spectrogram; its frames have a Hann window
const RANGE = 80; // dB below the loudest that the spectrogram shows
const QUIET = -40; // the loudest is taken to be at least this, in dB, so that silence is dark
const COLOURS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]]; // magma

// Draws the range between the lowest and the highest sample of each column, in the colour of the canvas's text.
export function drawWaveform(canvas, samples) {
  const [context, width, height] = sized(canvas);
  const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0.05);
  context.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < width; x++) {
    const column = samples.subarray(Math.floor((x * samples.length) / width), Math.ceil(((x + 1) * samples.length) / width));
    let [low, high] = [Infinity, -Infinity];
    for (const sample of column) {
      low = Math.min(low, sample);
      high = Math.max(high, sample);
    }
    const top = (height / 2) * (1 - high / loudest);
    context.fillRect(x, top, 1, Math.max(1, ((high - low) / loudest) * (height / 2)));
  }
}

export function drawSpectrogram(canvas, samples) {
  const [context, width] = sized(canvas);
  const frames = Array.from({ length: width }, (_, x) => levels(samples, Math.floor((x / width) * samples.length - FFT / 2)));
  const loudest = frames.reduce((most, frame) => frame.reduce((a, b) => Math.max(a, b), most), QUIET);
  const image = new ImageData(width, FFT / 2);
  frames.forEach((frame, x) =>
    frame.forEach((level, bin) => {
      const at = 4 * ((FFT / 2 - 1 - bin) * width + x);
      image.data.set([...colour(1 + (level - loudest) / RANGE), 255], at);
    }),
  );
  const whole = Object.assign(document.createElement("canvas"), { width, height: FFT / 2 });
  whole.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(whole, 0, 0, width, canvas.height);
}

function sized(canvas) {
  const scale = Math.min(2, devicePixelRatio);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  return [canvas.getContext("2d"), canvas.width, canvas.height];
}

function colour(share) {
  const place = Math.max(0, Math.min(1, share)) * (COLOURS.length - 1);
  const index = Math.min(COLOURS.length - 2, Math.floor(place));
  return COLOURS[index].map((low, channel) => low + (place - index) * (COLOURS[index + 1][channel] - low));
}

// Returns the levels in dB of the frame that begins at a sample, for FFT / 2 frequencies.
function levels(samples, begin) {
  const real = Float32Array.from({ length: FFT }, (_, n) => (samples[begin + n] ?? 0) * hann(n));
  const imaginary = new Float32Array(FFT);
  transform(real, imaginary);
  return real.subarray(0, FFT / 2).map((re, bin) => 10 * Math.log10(Math.max(re ** 2 + imaginary[bin] ** 2, 1e-12)));
}

function hann(n) {
  return 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / FFT);
}

// The fast Fourier transform in place, radix 2 (Cooley & Tukey 1965).
function transform(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j], imaginary[i], imaginary[j]] = [real[j], real[i], imaginary[j], imaginary[i]];
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const [cosine, sine] = [Math.cos((2 * Math.PI * k) / size), -Math.sin((2 * Math.PI * k) / size)];
      for (let i = k; i < n; i += size) {
        const j = i + size / 2;
        const [re, im] = [real[j] * cosine - imaginary[j] * sine, real[j] * sine + imaginary[j] * cosine];
        [real[j], imaginary[j], real[i], imaginary[i]] = [real[i] - re, imaginary[i] - im, real[i] + re, imaginary[i] + im];
      }
    }
  }
}
