// Plays an answer's sounds as they come, without gaps, and stops when another turn begins. It runs inside a gr.HTML,
// whose `props.value` is {turn, rate, sounds}: a number that grows from turn to turn, the sampling rate in Hz, and all
// sounds so far, 16-bit samples in base64.

let context;
let sources = [];
let [turn, played, end] = [0, 0, 0];

function toBuffer(sound, rate) {
  const bytes = Uint8Array.from(atob(sound), (letter) => letter.charCodeAt(0));
  const samples = Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
  const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
  buffer.copyToChannel(samples, 0);
  return buffer;
}

watch("value", () => {
  const { turn: current, rate, sounds } = props.value;
  if (current < turn) return; // it was on its way when the listener stopped it
  if (current > turn) {
    for (const source of sources) source.stop();
    sources = [];
    [turn, played, end] = [current, 0, 0];
  }
  for (; played < sounds.length; played++) {
    context ??= new AudioContext();
    const source = new AudioBufferSourceNode(context, { buffer: toBuffer(sounds[played], rate) });
    source.connect(context.destination);
    end = Math.max(end, context.currentTime);
    source.start(end);
    end += source.buffer.duration;
    sources.push(source);
  }
});
