// Resamples the microphone to 24 kHz with a windowed sinc, in the audio thread, and posts blocks of 40 ms.
// Firefox can't connect a microphone to an AudioContext of another sampling rate, so the page can't leave that to it.

const RATE = 24_000; // Hz
const BLOCK = 960; // samples
const CROSSINGS = 12; // zero crossings of the sinc on each side
const ROLL_OFF = 0.92; // of the lower one of the two Nyquist frequencies

class Resampler extends AudioWorkletProcessor {
  step = sampleRate / RATE; // samples of the microphone for each one that is posted
  cutoff = ROLL_OFF * Math.min(1, 1 / this.step); // relative to the microphone's Nyquist frequency
  half = Math.ceil(CROSSINGS / this.cutoff);
  filters = new Map(); // by the position between two samples
  input = new Float32Array(2 * this.half); // begins with silence
  position = this.half; // of the next sample to post, in the input
  block = new Int16Array(BLOCK);
  filled = 0;

  process([[samples]]) {
    if (!samples) return true; // the microphone isn't connected yet
    const input = new Float32Array(this.input.length + samples.length);
    input.set(this.input);
    input.set(samples, this.input.length);
    while (Math.floor(this.position) + this.half < input.length) {
      this.#post(this.#at(input));
      this.position += this.step;
    }
    const used = Math.floor(this.position) - this.half + 1;
    this.input = input.slice(used);
    this.position -= used;
    return true;
  }

  #at(input) {
    const first = Math.floor(this.position) - this.half + 1;
    const filter = this.#filter(Math.round((this.position % 1) * 1000) / 1000);
    let sum = 0;
    for (let i = 0; i < filter.length; i++) sum += filter[i] * input[first + i];
    return sum;
  }

  #filter(fraction) {
    if (!this.filters.has(fraction)) {
      const weights = Float32Array.from({ length: 2 * this.half }, (_, i) => {
        const distance = i - this.half + 1 - fraction;
        const x = Math.PI * distance * this.cutoff;
        const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / (this.half + 1));
        return (distance === 0 ? 1 : Math.sin(x) / x) * window * this.cutoff;
      });
      this.filters.set(fraction, weights);
    }
    return this.filters.get(fraction);
  }

  #post(sample) {
    this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    if (this.filled === BLOCK) {
      this.port.postMessage(this.block);
      this.filled = 0;
    }
  }
}

registerProcessor("resampler", Resampler);
