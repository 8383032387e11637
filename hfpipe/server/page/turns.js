// Shows the turns of a conversation.

import { length } from "./conversation.js";
import { pageLanguage, text, translate } from "./strings.js";

const STAGES = { asr: "timeAsr", llm: "timeLlm", tts: "timeTts" };
const BASE = "default"; // the name of the model's own voice

export class Turns {
  #list = document.getElementById("turns");
  #told = document.getElementById("words-told");
  #frame = document.getElementById("conversation");
  #elements = new Map(); // by the turns' ids
  #playing = null; // what was heard when it was last shown
  #conversation;
  #assistant;
  #onSave;

  // onSave(turn) is called to keep an answer's sound.
  constructor(conversation, assistant, onSave) {
    this.#conversation = conversation;
    this.#assistant = assistant;
    this.#onSave = onSave;
    conversation.addEventListener("change", ({ detail }) => this.#show(detail));
    conversation.addEventListener("drop", () => this.showAll());
    assistant.addEventListener("state", () => this.#showPlaying());
  }

  showAll() {
    this.#elements.clear();
    this.#list.replaceChildren();
    this.#told.replaceChildren();
    document.getElementById("welcome").hidden = this.#conversation.turns.length > 0;
    document.body.classList.toggle("fresh", this.#conversation.turns.length === 0);
    for (const turn of this.#conversation.turns) this.#show(turn, false);
  }

  #show(turn, isNew = true) {
    if (!this.#elements.has(turn.id)) this.#add(turn);
    const element = this.#elements.get(turn.id);
    const isAtEnd = this.#frame.scrollHeight - this.#frame.scrollTop - this.#frame.clientHeight < 120;
    this.#showWords(turn, element);
    if (turn.role === "assistant") {
      this.#showTools(turn, element);
      this.#showTimes(turn, element);
    }
    if (turn.isDone && isNew && turn.text && element.dataset.told !== turn.text) this.#tell(turn, element);
    if (isAtEnd) this.#frame.scrollTop = this.#frame.scrollHeight;
  }

  #add(turn) {
    const element = document.getElementById(`${turn.role}-turn`).content.firstElementChild.cloneNode(true);
    translate(element);
    if (turn.language) element.querySelector(".words").lang = turn.language;
    if (turn.role === "assistant") this.#wire(turn, element);
    this.#elements.set(turn.id, element);
    this.#list.append(element);
    document.getElementById("welcome").hidden = true;
    document.body.classList.remove("fresh");
  }

  #wire(turn, element) {
    const [own, base] = element.querySelectorAll(".play");
    own.addEventListener("click", () => this.#assistant.repeat(turn, turn.voice));
    base.addEventListener("click", () => this.#assistant.repeat(turn, BASE));
    element.querySelector(".download").addEventListener("click", () => this.#onSave(turn));
  }

  #showWords(turn, element) {
    const words = element.querySelector(".words");
    element.classList.toggle("coming", !turn.isDone);
    if (turn.heard === undefined || !turn.text.startsWith(turn.heard)) {
      words.textContent = turn.text || (turn.isDone && turn.role === "user" ? text(turn.cut ?? "unheard") : "");
    } else {
      const [about, rest] = [document.createElement("span"), document.createElement("s")];
      about.className = "unseen";
      about.textContent = text("notHeard");
      rest.textContent = turn.text.slice(turn.heard.length).trim();
      words.replaceChildren(turn.heard, " ", about, rest);
    }
    if (!turn.text && !turn.isDone && turn.role === "user") words.ariaLabel = text("hearing");
    else words.removeAttribute("aria-label");
  }

  #showTools(turn, element) {
    element.querySelector(".tools").hidden = !turn.isDone || !turn.text;
    element.querySelector(".base").hidden = turn.voice === BASE;
    element.querySelector(".download").hidden = length(turn) === 0;
    element.querySelector(".cut").textContent = turn.cut ? text(turn.cut) : "";
    this.#showPlay(turn, element);
  }

  #showPlaying() {
    if (this.#assistant.playing === this.#playing) return;
    this.#playing = this.#assistant.playing;
    for (const turn of this.#conversation.turns) {
      if (turn.role === "assistant" && this.#elements.has(turn.id)) this.#showPlay(turn, this.#elements.get(turn.id));
    }
  }

  #showPlay(turn, element) {
    for (const button of element.querySelectorAll(".play")) {
      const isBase = button.classList.contains("base");
      const isPlaying = this.#assistant.isRepeating(turn, isBase ? BASE : turn.voice);
      const name = isBase ? text("voiceBase") : turn.voice === BASE ? text("play") : turn.voice;
      const label = isPlaying ? text("stop") : name;
      button.querySelector("use").setAttribute("href", isPlaying ? "#icon-stop" : "#icon-play");
      button.querySelector("span").textContent = label;
      button.ariaLabel = isPlaying
        ? `${text("stop")} (${name})`
        : isBase
          ? text("playBase")
          : `${text("play")}: ${label}`;
    }
  }

  #showTimes(turn, element) {
    const times = turn.times ?? {};
    const stages = Object.keys(STAGES).filter((stage) => times[stage] !== undefined);
    const seconds = (value) => value.toLocaleString(pageLanguage(), { maximumFractionDigits: 2 });
    element.querySelector(".times").hidden = stages.length === 0;
    for (const part of element.querySelectorAll(".bar i")) {
      part.hidden = times[part.className] === undefined; // nothing was heard of a typed question
      part.style.flexGrow = times[part.className] ?? 0;
    }
    const items = stages.map((stage) => {
      const item = document.createElement("li");
      item.className = stage;
      item.textContent = `${text(STAGES[stage])} ${text("seconds", { seconds: seconds(times[stage]) })}`;
      return item;
    });
    element.querySelector(".times ul").replaceChildren(...items);
    const { heard } = times;
    element.querySelector(".heard").textContent =
      heard === undefined ? "" : text("timeHeard", { seconds: seconds(heard) });
  }

  // Tells screen readers whole turns: words that change as they come would be read again and again.
  #tell(turn, element) {
    element.dataset.told = turn.text;
    const told = document.createElement("p");
    told.textContent = `${text(turn.role === "user" ? "you" : "answer")}: ${turn.text}`;
    if (turn.language) told.lang = turn.language;
    this.#told.append(told);
    while (this.#told.childElementCount > 4) this.#told.firstChild.remove();
  }
}
