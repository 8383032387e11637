// Choosing a voice, and adding one with its speaker's consent.

import { deleteVoice, listVoices, saveVoice } from "./api.js";
import { concatenate, loudness, RATE, toWav } from "./sound.js";
import { text } from "./strings.js";

const BASE = "default";
const SHORTEST = 3; // seconds
const LONGEST = 30;

// Tells "change" when another voice is chosen, and "open" when the dialog opens.
export class Voices extends EventTarget {
  chosen = BASE;
  #select = document.getElementById("voice");
  #dialog = document.getElementById("voice-dialog");
  #record = document.getElementById("voice-record");
  #microphone;
  #model = null;
  #known = []; // as the server lists them
  #blocks = []; // of a recording
  #sample = null; // a Blob

  constructor(microphone, chosen) {
    super();
    this.#microphone = microphone;
    this.chosen = chosen;
    this.#select.addEventListener("change", () => this.#choose(this.#select.value));
    document.getElementById("add-voice").addEventListener("click", () => this.#open());
    this.#record.addEventListener("click", () =>
      this.#microphone.isOpen ? this.#endRecording() : this.#startRecording(),
    );
    document.getElementById("voice-file").addEventListener("change", ({ target }) => this.#take(target.files[0]));
    this.#dialog.querySelector(".cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#microphone.close());
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
  }

  // Lists the voices of a model; rejects with ApiError.
  async load(model) {
    this.#model = model;
    this.#known = await listVoices();
    this.show();
  }

  show() {
    const option = (name, label = name) => new Option(label, name, false, name === this.chosen);
    const group = (label, voices) => {
      const element = document.createElement("optgroup");
      element.label = label;
      element.append(...voices.map((voice) => option(voice.name)));
      return voices.length ? [element] : [];
    };
    const saved = this.#known.filter((voice) => voice.saved);
    const own = this.#known.filter((voice) => !voice.saved);
    if (!this.#known.some((voice) => voice.name === this.chosen)) this.chosen = BASE;
    this.#select.replaceChildren(
      option(BASE, text("voiceBase")),
      ...group(text("voicesSaved"), saved),
      ...group(text("voicesOwn"), own),
    );
    this.#select.value = this.chosen;
    const add = document.getElementById("add-voice");
    add.disabled = !this.#model?.saves_voices;
    add.title = add.disabled && this.#model ? text("voiceUnsaved") : "";
    this.#showKept(saved);
    this.#showSample();
  }

  #choose(name) {
    this.chosen = name;
    this.dispatchEvent(new Event("change"));
  }

  #open() {
    this.dispatchEvent(new Event("open"));
    this.#dialog.querySelector(".about").textContent = text(this.#model.clones ? "voiceClone" : "voiceBlend");
    this.#tellWrong("");
    this.#dialog.showModal();
  }

  async #startRecording() {
    this.#blocks = [];
    this.#take(null);
    try {
      await this.#microphone.open((block) => this.#hear(block));
    } catch (error) {
      this.#tellWrong(
        `${text(`problem${error.kind}`)}. ${text(`remedy${error.kind}`, { detail: error.message, origin: location.origin })}`,
      );
    }
    this.#showSample();
  }

  #hear(block) {
    this.#blocks.push(block);
    this.#dialog.querySelector("meter").value = loudness(block, 32768);
    const seconds = (this.#blocks.length * block.length) / RATE;
    this.#dialog.querySelector(".taken").textContent = text("voiceTaken", { seconds });
    if (seconds >= LONGEST) this.#endRecording();
  }

  #endRecording() {
    this.#microphone.close();
    const samples = concatenate(this.#blocks);
    const seconds = samples.length / RATE;
    this.#take(seconds < SHORTEST ? null : toWav(samples), text("voiceTaken", { seconds }));
    this.#tellWrong(seconds < SHORTEST ? text("voiceLonger", { seconds }) : "");
  }

  #take(sample, about = null) {
    this.#sample = sample ?? null;
    const audio = this.#dialog.querySelector("audio");
    URL.revokeObjectURL(audio.src);
    audio.hidden = !sample;
    if (sample) audio.src = URL.createObjectURL(sample);
    this.#dialog.querySelector(".taken").textContent = sample
      ? (about ?? text("voiceFile", { name: sample.name }))
      : "";
    if (sample) this.#tellWrong("");
    this.#showSample();
  }

  #showSample() {
    this.#record.textContent = text(this.#microphone.isOpen ? "voiceRecordEnd" : "voiceRecord");
    this.#record.ariaPressed = String(this.#microphone.isOpen);
    this.#dialog.querySelector("meter").hidden = !this.#microphone.isOpen;
  }

  async #save() {
    if (this.#microphone.isOpen) this.#endRecording();
    if (!this.#sample) return this.#tellWrong(text("voiceNone"));
    const button = this.#dialog.querySelector("[type=submit]");
    const name = document.getElementById("voice-name").value.trim();
    button.disabled = true;
    button.textContent = text("voiceSaving");
    try {
      await saveVoice(name, this.#sample, document.getElementById("voice-consent-by").value.trim());
      await this.load(this.#model);
      this.#dialog.querySelector("form").reset();
      this.#take(null);
      this.#dialog.close();
      this.#select.value = name;
      this.#choose(name);
    } catch (error) {
      this.#tellWrong(error.message);
    } finally {
      button.disabled = false;
      button.textContent = text("voiceSave");
    }
  }

  #showKept(saved) {
    const section = this.#dialog.querySelector(".kept");
    section.hidden = saved.length === 0;
    const items = saved.map((voice) => {
      const item = document.createElement("li");
      const about = document.createElement("span");
      about.textContent = `${voice.name} · ${text("voiceConsented", { name: voice.consent_by })}`;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.append(this.#dialog.querySelector("template").content.cloneNode(true));
      button.ariaLabel = button.title = text("voiceDelete", { name: voice.name });
      button.addEventListener("click", () => this.#delete(voice.name));
      item.append(about, button);
      return item;
    });
    section.querySelector("ul").replaceChildren(...items);
  }

  async #delete(name) {
    try {
      await deleteVoice(name);
      const wasChosen = this.chosen === name;
      await this.load(this.#model);
      if (wasChosen) this.#choose(BASE);
    } catch (error) {
      this.#tellWrong(error.message);
    }
  }

  #tellWrong(message) {
    this.#dialog.querySelector(".wrong").textContent = message;
  }
}
