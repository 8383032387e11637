// Opens the microphone, and gives its blocks of 16-bit samples at 24 kHz.

const KINDS = { NotAllowedError: "Denied", NotFoundError: "Missing", NotReadableError: "Taken" };

export class MicrophoneError extends Error {
  // kind: Denied, Missing, Taken, Insecure or Microphone
  constructor(kind, detail = "") {
    super(detail);
    this.kind = kind;
  }
}

export class Microphone {
  #stream = null;
  #context = null;

  get isOpen() {
    return this.#context !== null;
  }

  // Passes blocks to onBlock until it is closed. Rejects with MicrophoneError.
  async open(onBlock) {
    if (!navigator.mediaDevices || !window.isSecureContext) throw new MicrophoneError("Insecure");
    this.close();
    const context = (this.#context = new AudioContext({ latencyHint: "interactive" }));
    try {
      const wish = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
      if (this.#context !== context) return stop(stream); // closed meanwhile
      this.#stream = stream;
      await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
      if (this.#context !== context) return;
      const worklet = new AudioWorkletNode(context, "resampler", { numberOfOutputs: 0 });
      worklet.port.onmessage = ({ data }) => this.#context === context && onBlock(data);
      context.createMediaStreamSource(stream).connect(worklet);
      await context.resume();
    } catch (error) {
      this.close();
      throw new MicrophoneError(KINDS[error.name] ?? "Microphone", `${error.name}: ${error.message}`);
    }
  }

  close() {
    if (this.#stream) stop(this.#stream);
    this.#context?.close();
    this.#stream = this.#context = null;
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
