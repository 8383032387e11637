// Plays sound as it comes, falls silent at once, and knows how much of it was heard.

import { loudness, RATE } from "./sound.js";

const LEAD = 0.05; // seconds of silence after which late sound goes on

export class Player extends EventTarget {
  #context = null;
  #analyser = null;
  #samples = null;
  #pieces = []; // what is still to be heard: {id, source, start, seconds}
  #heard = 0; // seconds of the current id that were played whole
  #id = null;
  #end = 0; // when what is there will have been played

  get isPlaying() {
    return this.#pieces.length > 0;
  }

  // Identifies what is being played, or was played last.
  get id() {
    return this.#id;
  }

  get level() {
    if (!this.isPlaying) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    return loudness(this.#samples);
  }

  // Prepares to play; browsers take this within a click or a key press.
  unlock() {
    if (this.#context === null) {
      this.#context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      this.#analyser = this.#context.createAnalyser();
      this.#analyser.fftSize = 1024;
      this.#samples = new Float32Array(this.#analyser.fftSize);
      this.#analyser.connect(this.#context.destination);
    }
    if (this.#context.state !== "running") this.#context.resume();
  }

  // Adds sound to what `id` names; sound of another one is dropped.
  play(id, samples) {
    if (samples.length === 0) return;
    this.unlock();
    if (id !== this.#id) {
      this.stop();
      this.#id = id;
      this.#heard = 0;
    }
    const buffer = this.#context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(
      Float32Array.from(samples, (sample) => sample / 32768),
      0,
    );
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#analyser);
    const now = this.#context.currentTime;
    const start = this.#end > now ? this.#end : now + LEAD;
    const piece = { source, start, seconds: buffer.duration };
    this.#end = start + piece.seconds;
    source.onended = () => this.#finish(piece);
    source.start(start);
    this.#pieces.push(piece);
    if (this.#pieces.length === 1) this.dispatchEvent(new Event("change"));
  }

  // Falls silent; returns the milliseconds of the current id that were heard.
  stop() {
    const milliseconds = this.heard;
    const wasPlaying = this.isPlaying;
    for (const { source } of this.#pieces) {
      source.onended = null;
      source.stop();
      source.disconnect();
    }
    this.#heard = milliseconds / 1000;
    this.#pieces = [];
    this.#end = 0;
    if (wasPlaying) this.dispatchEvent(new Event("change"));
    return milliseconds;
  }

  // Milliseconds of the current id that were heard: the device plays a little later than the context's time.
  get heard() {
    const now = this.#context ? this.#context.currentTime - (this.#context.outputLatency || 0) : 0;
    const played = ({ start, seconds }) => Math.min(seconds, Math.max(0, now - start));
    return Math.floor(1000 * this.#pieces.reduce((sum, piece) => sum + played(piece), this.#heard));
  }

  #finish(piece) {
    this.#pieces = this.#pieces.filter((other) => other !== piece);
    this.#heard += piece.seconds;
    if (!this.isPlaying) this.dispatchEvent(new Event("change"));
  }
}
