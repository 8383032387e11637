// 16-bit mono samples at 24 kHz: what the Realtime API takes and gives.

export const RATE = 24_000; // Hz

export function toBase64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000)); // arguments are limited in number
  }
  return btoa(text);
}

export function fromBase64(text) {
  return new Int16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

export function concatenate(pieces) {
  const whole = new Int16Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let position = 0;
  for (const piece of pieces) {
    whole.set(piece, position);
    position += piece.length;
  }
  return whole;
}

// Returns the loudness of samples between 0 and 1: from -50 dB of full scale to -10 dB.
export function loudness(samples, scale = 1) {
  let power = 0;
  for (const sample of samples) power += (sample / scale) ** 2;
  const decibels = 10 * Math.log10(power / Math.max(samples.length, 1) + 1e-10);
  return Math.min(1, Math.max(0, (decibels + 50) / 40));
}

// Returns a WAV file.
export function toWav(samples) {
  const header = new DataView(new ArrayBuffer(44));
  const write = (position, letters) =>
    [...letters].forEach((letter, i) => header.setUint8(position + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  write(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, RATE, true);
  header.setUint32(28, RATE * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  write(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

// The last minutes of what was sent in a session, from which turns are cut by the server's clock.
export class Tape {
  #blocks = [];
  #start = 0; // samples before the first block
  #end = 0;

  constructor(seconds) {
    this.room = seconds * RATE;
  }

  push(block) {
    this.#blocks.push(block);
    this.#end += block.length;
    while (this.#end - this.#start > this.room) this.#start += this.#blocks.shift().length;
  }

  // Milliseconds that were sent so far.
  get now() {
    return (this.#end / RATE) * 1000;
  }

  cut(from, to) {
    const at = (milliseconds) => Math.max(0, Math.round((milliseconds * RATE) / 1000) - this.#start);
    return concatenate(this.#blocks).slice(at(from), at(to));
  }
}
