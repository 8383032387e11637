// One WebSocket to the Realtime API that is taken up again when it is lost.

import { openRealtime } from "./api.js";

const FIRST_PAUSE = 0.5; // seconds before the first new attempt; each next one waits twice as long
const LONGEST_PAUSE = 15;
const UNTIL_CREATED = 15; // seconds within which a session must begin
const BUSY = 1013; // WebSocket's "try again later"

// Tells "state" when it changes, and "event" with each event of the server. States:
//   connecting, open; waiting or busy: tries again by itself, after `pause` seconds;
//   locked: the key is missing or wrong; refused: for the reason in `detail`.
export class Connection extends EventTarget {
  state = "connecting";
  detail = "";
  pause = 0;
  model = null;
  #socket = null;
  #attempts = 0;
  #timer = null;
  #prepare;

  // prepare() describes the model, or rejects with the ApiError that a refused WebSocket hides.
  constructor(prepare) {
    super();
    this.#prepare = prepare;
  }

  // Connects anew, now.
  async open() {
    this.close();
    this.#become("connecting");
    const mine = (this.#timer = setTimeout(() => this.#fail("waiting"), UNTIL_CREATED * 1000));
    try {
      this.model = await this.#prepare();
    } catch (error) {
      if (this.#timer !== mine) return;
      if (error.status === 401) return this.#fail("locked");
      if (error.status === 403) return this.#fail("refused", error.message);
      return this.#fail("waiting");
    }
    if (this.#timer === mine) this.#connect();
  }

  #connect() {
    const socket = (this.#socket = openRealtime(this.model.model));
    socket.addEventListener("message", ({ data }) => {
      if (this.#socket !== socket) return;
      const event = JSON.parse(data);
      if (event.type === "session.created") {
        clearTimeout(this.#timer);
        this.#attempts = 0;
        this.#become("open");
      }
      this.dispatchEvent(new CustomEvent("event", { detail: event }));
    });
    socket.addEventListener("close", ({ code }) => {
      if (this.#socket === socket) this.#fail(code === BUSY ? "busy" : "waiting");
    });
  }

  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#timer = this.#socket = null;
    socket?.close();
  }

  send(event) {
    if (this.state === "open") this.#socket.send(JSON.stringify(event));
  }

  #fail(state, detail = "") {
    this.close();
    if (state === "waiting" || state === "busy") {
      this.pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempts++) * (0.8 + 0.4 * Math.random());
      this.#timer = setTimeout(() => this.open(), this.pause * 1000);
    }
    this.#become(state, detail);
  }

  #become(state, detail = "") {
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}
