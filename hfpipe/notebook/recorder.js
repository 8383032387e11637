// Records the microphone in a notebook, with a small user interface, as 16-bit samples at the browser's sampling rate,
// and releases all resources. The entry points are `recordInColab` for Colab and `render` for Jupyter's anywidget.

const BLOCK = 2048; // samples per message of the audio thread: 43 ms at 48 kHz
const PIECE = 192 * 1024; // samples per message to Python, 512 KiB in base64: Colab drops messages of 1 MB and more
const SPEECH = 0.01; // minimum root mean square of a block with speech: -40 dBFS
const PAUSE = 0.1; // relative to the loudest block: below it (-20 dB) is a pause, also in a noisy room

const WORKLET = `
registerProcessor("hfpipe-blocks", class extends AudioWorkletProcessor {
  block = new Float32Array(${BLOCK});
  filled = 0;
  process([[samples]]) {
    if (!samples) return true; // the microphone isn't connected yet
    this.block.set(samples, this.filled);
    this.filled += samples.length;
    if (this.filled === ${BLOCK}) {
      this.port.postMessage(this.block);
      this.filled = 0;
    }
    return true;
  }
});`;

// Collects blocks of float samples as 16-bit samples, until `maxSeconds`, or `silence` seconds after speech (or null).
class Tape {
  blocks = [];
  length = 0; // samples
  level = 0; // root mean square of the last block
  loudest = 0;
  quiet = 0; // samples since the last speech

  constructor(rate, maxSeconds, silence) {
    this.room = Math.round(maxSeconds * rate);
    this.patience = silence === null ? Infinity : silence * rate;
  }

  add(block) {
    this.level = Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length);
    this.loudest = Math.max(this.loudest, this.level);
    const speech = this.level >= Math.max(SPEECH, PAUSE * this.loudest);
    this.quiet = speech ? 0 : this.quiet + block.length;
    const kept = block.subarray(0, this.room - this.length);
    this.blocks.push(Int16Array.from(kept, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768)))));
    this.length += kept.length;
  }

  get full() {
    return this.length === this.room || (this.loudest >= SPEECH && this.quiet >= this.patience);
  }

  get samples() {
    const samples = new Int16Array(this.length);
    let position = 0;
    for (const block of this.blocks) {
      samples.set(block, position);
      position += block.length;
    }
    return samples;
  }
}

function show(element) {
  const face = document.createElement("div");
  face.className = "hfpipe-recorder";
  face.style.cssText = "display: flex; gap: 12px; align-items: center; padding: 8px; font-family: sans-serif";
  const button = document.createElement("button");
  button.textContent = "Grabar";
  button.style.cssText = "padding: 6px 14px; font-size: 1em; cursor: pointer";
  const meter = document.createElement("meter");
  meter.ariaLabel = "Nivel del micrófono";
  const clock = document.createElement("span");
  face.append(button, meter, clock);
  element.append(face);
  const update = (level, seconds) => {
    meter.value = 1 + Math.log10(Math.max(level, 1e-3)) / 3; // from -60 dB of full scale to 0
    clock.textContent = `${seconds.toFixed(1).replace(".", ",")} s`;
  };
  update(0, 0);
  return { face, button, update };
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new DOMException("this page is neither https nor localhost", "SecurityError");
  // Record without call processing, which would degrade a voice that is to be cloned.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
  return navigator.mediaDevices.getUserMedia({ audio });
}

async function connect(context, stream) {
  const url = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
  URL.revokeObjectURL(url);
  const node = new AudioWorkletNode(context, "hfpipe-blocks", { channelCount: 1, channelCountMode: "explicit" });
  node.connect(context.destination); // it outputs silence, but browsers may not run unconnected nodes
  context.createMediaStreamSource(stream).connect(node);
  return node.port;
}

// Resolves at the next event of a type; rejects when the signal is aborted.
function next(target, type, signal) {
  return new Promise((resolve, reject) => {
    target.addEventListener(type, resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

// Shows the recorder in an element, and resolves to { rate, samples } (Hz, Int16Array) when the recording has ended.
// Rejects with a DOMException: that of getUserMedia, or "Cancelled" if the signal or a later recording ended it.
export async function record(element, { max_seconds, silence }, signal) {
  globalThis.hfpipeRecorder?.cancel();
  const over = new AbortController();
  const recorder = (globalThis.hfpipeRecorder = {
    cancel: () => over.abort(new DOMException("its interface was removed", "Cancelled")),
  });
  const atTheEnd = (undo) => (over.signal.aborted ? undo() : over.signal.addEventListener("abort", undo));
  atTheEnd(() => globalThis.hfpipeRecorder === recorder && delete globalThis.hfpipeRecorder);
  signal?.addEventListener("abort", recorder.cancel, { signal: over.signal });
  try {
    const { face, button, update } = show(element);
    atTheEnd(() => face.remove());
    await next(button, "click", over.signal);
    button.disabled = true;
    const context = new AudioContext(); // before awaiting the microphone: Safari requires a recent click
    atTheEnd(() => context.close());
    const stream = await openMicrophone();
    atTheEnd(() => stream.getTracks().forEach((track) => track.stop()));
    over.signal.throwIfAborted();
    const port = await connect(context, stream);
    atTheEnd(() => port.close());
    over.signal.throwIfAborted();
    const tape = new Tape(context.sampleRate, max_seconds, silence);
    button.textContent = "Parar";
    button.disabled = false;
    const full = new Promise((resolve) => {
      port.onmessage = ({ data }) => {
        if (tape.full) return;
        tape.add(data);
        update(tape.level, tape.length / context.sampleRate);
        if (tape.full) resolve();
      };
    });
    const unplugged = next(stream.getTracks()[0], "ended", over.signal);
    await Promise.race([full, unplugged, next(button, "click", over.signal)]);
    return { rate: context.sampleRate, samples: tape.samples };
  } finally {
    over.abort();
  }
}

function cut(samples) {
  const count = Math.ceil(samples.length / PIECE);
  return Array.from({ length: count }, (_, i) => samples.slice(i * PIECE, (i + 1) * PIECE).buffer);
}

function toBase64(buffer) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([buffer]));
  });
}

// Resolves to { rate, pieces }, and Python fetches each `hfpipeRecorder.piece(i)` in base64; or to { error, message }.
export async function recordInColab(options) {
  try {
    const recording = record(document.body, options);
    globalThis.google?.colab?.output?.setIframeHeight(document.documentElement.scrollHeight, true);
    const { rate, samples } = await recording;
    const pieces = cut(samples);
    globalThis.hfpipeRecorder = {
      piece: (i) => toBase64(pieces[i]),
      cancel: () => delete globalThis.hfpipeRecorder,
    };
    return { rate, pieces: pieces.length };
  } catch (error) {
    return { error: error.name, message: error.message };
  }
}

// Sends Python "shown", then each "piece" in a buffer, then "end" with { rate, pieces } or { error, message }.
function render({ model, el, signal }) {
  const send = (content, ...buffers) => model.send(content, undefined, buffers);
  send({ kind: "shown" });
  record(el, model.get("options"), signal).then(
    ({ rate, samples }) => {
      const pieces = cut(samples);
      for (const piece of pieces) send({ kind: "piece" }, piece);
      send({ kind: "end", rate, pieces: pieces.length });
    },
    (error) => send({ kind: "end", error: error.name, message: error.message }),
  );
}

export default { render };
