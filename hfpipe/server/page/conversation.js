// The turns of a conversation: kept over a reload, taken up by a new session, and saved to files.

import { concatenate, RATE, toWav } from "./sound.js";
import { text } from "./strings.js";

const KEY = "hfpipe.conversation";
const ROOM = 30 * 60 * RATE; // samples of all turns that are kept in memory: 86 MB
const PAUSE = new Int16Array(RATE / 2); // between turns in a file

// A turn is {id, role, text, at, language} of the role "user" or "assistant", and may have
//   heard: the words of a cut answer that were heard; cut: "cut" or "lost", why it isn't whole;
//   voice: of an answer; times: its seconds by stage {asr, llm, tts, first_audio, total, heard};
//   isDone: no more words come; pieces: its samples; response: of the Realtime API, an answer's.
// Tells "change" with the turn, "drop" when all are gone.
export class Conversation extends EventTarget {
  turns = read();

  find(id) {
    return this.turns.find((turn) => turn.id === id);
  }

  // Returns the answer that a response of this session is.
  answerTo(response) {
    return this.turns.findLast((turn) => response && turn.response === response);
  }

  // Returns the turn of an id, and begins it where there is none.
  begin(id, role, values = {}) {
    const turn = this.find(id);
    if (turn) return turn;
    const begun = { id, role, text: "", at: new Date().toISOString(), isDone: false, pieces: [], ...values };
    this.turns.push(begun);
    this.#tell(begun);
    return begun;
  }

  change(turn, values) {
    Object.assign(turn, values);
    if (turn.isDone) this.#write();
    this.#tell(turn);
  }

  addSound(turn, samples) {
    turn.pieces.push(samples);
    let room = ROOM;
    for (const each of this.turns.toReversed()) {
      room -= length(each);
      if (room < 0 && each !== turn) each.pieces = [];
    }
  }

  drop() {
    this.turns = [];
    this.#write();
    this.dispatchEvent(new Event("drop"));
  }

  // What a new session needs to know: items of the Realtime API, as they were heard.
  get items() {
    return this.turns
      .map((turn) => ({ ...turn, said: turn.heard ?? turn.text }))
      .filter((turn) => turn.said)
      .map(({ id, role, said }) => {
        const content = [{ type: role === "user" ? "input_text" : "output_text", text: said }];
        return { id, type: "message", role, status: "completed", content };
      });
  }

  toText() {
    const name = { user: text("you"), assistant: text("answer") };
    const line = (turn) => `${name[turn.role]}: ${turn.heard ?? turn.text}${turn.cut ? ` (${text(turn.cut)})` : ""}`;
    return new Blob([this.turns.map(line).join("\n\n") + "\n"], { type: "text/plain" });
  }

  toJson(model) {
    const kept = { model, saved_at: new Date().toISOString(), turns: this.turns.map(plain) };
    return new Blob([JSON.stringify(kept, null, 2) + "\n"], { type: "application/json" });
  }

  toSound() {
    return toWav(concatenate(this.turns.flatMap((turn) => (length(turn) ? [...turn.pieces, PAUSE] : []))));
  }

  get hasSound() {
    return this.turns.some(length);
  }

  #tell(turn) {
    this.dispatchEvent(new CustomEvent("change", { detail: turn }));
  }

  #write() {
    sessionStorage.setItem(KEY, JSON.stringify(this.turns.map(plain)));
  }
}

export function length(turn) {
  return turn.pieces.reduce((sum, piece) => sum + piece.length, 0);
}

function plain({ pieces, isDone, response, ...turn }) {
  return turn;
}

function read() {
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  return kept.map((turn) => ({ ...turn, isDone: true, pieces: [] }));
}
