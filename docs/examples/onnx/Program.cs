// Predict WAV files with the files of `ser export MODEL --encoder`, in C#.
//
//     dotnet new console --output predict && cd predict && dotnet add package Microsoft.ML.OnnxRuntime
//     cp .../Program.cs . && dotnet run MODEL/onnx CLIP.wav ...

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using static System.Globalization.CultureInfo;

static class Program
{
    // Print a prediction for each recording, as one line of JSON.
    static void Main(string[] arguments)
    {
        using (var encoder = new InferenceSession(Path.Combine(arguments[0], "encoder.onnx")))
        using (var head = new InferenceSession(Path.Combine(arguments[0], "head.onnx")))
        {
            // distance.onnx is missing if it is not known how the training clips sound.
            var file = Path.Combine(arguments[0], "distance.onnx");
            var distance = File.Exists(file) ? new InferenceSession(file) : null;
            foreach (var path in arguments.Skip(1))
                Console.WriteLine(Predict(encoder, head, distance, path));
        }
    }

    // Return the label of a WAV file, or null if nothing is audible, and the probability of each label, as JSON.
    static string Predict(InferenceSession encoder, InferenceSession head, InferenceSession distance, string path)
    {
        var facts = head.ModelMetadata.CustomMetadataMap;
        var (channels, rate) = ReadWav(File.ReadAllBytes(path));
        var mono = facts["channel"] == "mean" ? Mean(channels) : channels[(int)Number(facts, "channel")];
        var waveform = Resample(mono, rate, (int)Number(facts, "sample_rate"), facts);
        if (waveform.Length < Number(facts, "shortest_samples") || waveform.Length > Number(facts, "longest_samples"))
            throw new ArgumentException($"{path}: {waveform.Length} samples; wanted {facts["shortest_samples"]} to {facts["longest_samples"]}");
        var input = new DenseTensor<float>(waveform.Select(value => (float)value).ToArray(), new[] { 1, waveform.Length });
        var inputs = new[] { NamedOnnxValue.CreateFromTensor("waveform", input) };
        using (var embedded = encoder.Run(inputs))
        using (var predicted = head.Run(new[] { NamedOnnxValue.CreateFromTensor("embedding", embedded.First().AsTensor<float>()) }))
        {
            var probabilities = predicted.First(value => value.Name == "probabilities").AsEnumerable<float>().ToArray();
            var label = predicted.First(value => value.Name == "label").AsEnumerable<string>().First();
            var audible = IsAudible(waveform, facts);
            var names = JsonSerializer.Deserialize<string[]>(facts["labels"]);
            var weight = !audible ? 0.0 : distance == null ? 1.0 : Weight(distance, inputs);
            return JsonSerializer.Serialize(new Dictionary<string, object>
            {
                ["path"] = path,
                ["label"] = audible ? label : null,
                ["probabilities"] = Enumerable.Range(0, names.Length).ToDictionary(
                    column => names[column], column => weight * probabilities[column] + (1 - weight) / names.Length),
            });
        }
    }

    // Return what the probabilities count against equal ones: less than 1 for a sound unlike the training clips.
    static double Weight(InferenceSession distance, IReadOnlyCollection<NamedOnnxValue> inputs)
    {
        using (var found = distance.Run(inputs))
            return Math.Min(1, Math.Pow(found.First().AsEnumerable<float>().First(), -2));
    }

    static double Number(IDictionary<string, string> facts, string key) => double.Parse(facts[key], InvariantCulture);

    static double[] Mean(double[][] channels) =>
        Enumerable.Range(0, channels[0].Length).Select(i => channels.Average(channel => channel[i])).ToArray();

    // Return a waveform x at another sample rate, low-passed with a sinc in a Kaiser window.
    static double[] Resample(double[] x, int rate, int target, IDictionary<string, string> facts)
    {
        if (rate == target) return x;
        var step = Gcd(rate, target);
        int up = target / step, down = rate / step; // output sample m lies at m * down / up input samples
        var scale = Math.Min(1, (double)target / rate);
        double cutoff = scale * Number(facts, "resampler_cutoff"), beta = Number(facts, "resampler_beta");
        var half = Number(facts, "resampler_half_width") / scale; // half the width of the window, in input samples
        var reach = (int)half;
        Func<double, double> tap = t => Math.Abs(t) < half
            ? cutoff * Sinc(cutoff * t) * I0(beta * Math.Sqrt(1 - t / half * (t / half))) / I0(beta)
            : 0;
        var table = Enumerable.Range(0, up)
            .Select(phase => Enumerable.Range(0, 2 * reach + 2).Select(k => tap((double)phase / up + reach - k)).ToArray())
            .ToArray();
        var y = new double[((long)x.Length * up * 2 + down) / (2 * down)];
        for (long m = 0; m < y.Length; m++)
        {
            var weights = table[m * down % up];
            var first = m * down / up - reach;
            for (var k = Math.Max(0, -first); k < Math.Min(weights.Length, x.Length - first); k++)
                y[m] += weights[k] * x[first + k];
        }
        return y;
    }

    // Return whether enough frames of a waveform are louder than the threshold; else there is nothing to judge.
    static bool IsAudible(double[] x, IDictionary<string, string> facts)
    {
        var seconds = Number(facts, "silence_frame_seconds");
        var width = (int)Math.Round(seconds * Number(facts, "sample_rate"));
        var offset = x.Average();
        var threshold = Math.Pow(10, Number(facts, "silence_below_db") / 20);
        var loud = Enumerable.Range(0, (x.Length + width - 1) / width)
            .Select(frame => x.Skip(frame * width).Take(width).Sum(value => Math.Pow(value - offset, 2)))
            .Count(energy => Math.Sqrt(energy / width) > threshold);
        return seconds * loud >= Number(facts, "silence_least_seconds");
    }

    static int Gcd(int a, int b) => b == 0 ? a : Gcd(b, a % b);

    static double Sinc(double x) => x == 0 ? 1 : Math.Sin(Math.PI * x) / (Math.PI * x);

    // The modified Bessel function of the first kind and of order 0, as its power series.
    static double I0(double x)
    {
        double sum = 1, term = 1;
        for (var k = 1; term > 1e-17 * sum; k++) sum += term *= x / (2 * k) * (x / (2 * k));
        return sum;
    }

    // Return the channels of a WAV file, of integers of 8 to 32 bits or of floats, and its sample rate in Hz.
    static (double[][] channels, int rate) ReadWav(byte[] bytes)
    {
        var found = Chunks(bytes);
        if (!found.ContainsKey("fmt ") || !found.ContainsKey("data")) throw new ArgumentException("not a WAV file with samples");
        int fmt = found["fmt "].start, data = found["data"].start;
        int width = BitConverter.ToUInt16(bytes, fmt + 2), rate = BitConverter.ToInt32(bytes, fmt + 4), bits = BitConverter.ToUInt16(bytes, fmt + 14);
        var isFloat = BitConverter.ToUInt16(bytes, fmt + (BitConverter.ToUInt16(bytes, fmt) == 0xfffe ? 24 : 0)) == 3;
        var kind = (isFloat ? "f" : "i") + bits;
        var length = found["data"].size / (width * bits / 8);
        var channels = Enumerable.Range(0, width)
            .Select(c => Enumerable.Range(0, length).Select(i => Sample(bytes, data + (i * width + c) * bits / 8, kind)).ToArray())
            .ToArray();
        return (channels, rate);
    }

    static double Sample(byte[] bytes, int at, string kind)
    {
        switch (kind)
        {
            case "f32": return BitConverter.ToSingle(bytes, at);
            case "f64": return BitConverter.ToDouble(bytes, at);
            case "i8": return (bytes[at] - 128) / 128.0;
            case "i16": return BitConverter.ToInt16(bytes, at) / 32768.0;
            case "i24": return (bytes[at] << 8 | bytes[at + 1] << 16 | bytes[at + 2] << 24) / 2147483648.0;
            case "i32": return BitConverter.ToInt32(bytes, at) / 2147483648.0;
            default: throw new ArgumentException($"samples of {kind.Substring(1)} bits; wanted 8, 16, 24 or 32, or floats");
        }
    }

    // Return the first byte and the size of the chunks of a WAV file, by name.
    static Dictionary<string, (int start, int size)> Chunks(byte[] bytes)
    {
        var found = new Dictionary<string, (int start, int size)>();
        for (var at = 12; at + 8 <= bytes.Length;)
        {
            var size = (int)Math.Min(BitConverter.ToUInt32(bytes, at + 4), bytes.Length - at - 8);
            found[Encoding.ASCII.GetString(bytes, at, 4)] = (at + 8, size);
            at += 8 + size + size % 2;
        }
        return found;
    }
}
