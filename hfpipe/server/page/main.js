// The page: connects what the user does with the assistant, and shows how it is doing.

import { readKey, readModel, writeKey } from "./api.js";
import { Assistant } from "./assistant.js";
import { Connection } from "./connection.js";
import { Conversation, length } from "./conversation.js";
import { Microphone } from "./microphone.js";
import { Orb } from "./orb.js";
import { Player } from "./player.js";
import { concatenate, toWav } from "./sound.js";
import { pageLanguage, switchPageLanguage, text, translate } from "./strings.js";
import { Turns } from "./turns.js";
import { Voices } from "./voices.js";

const CHOICES = "hfpipe.choices";
const FIRST = ["es", "en", "pt", "fr", "it"]; // languages of the list
const REGIONS = { es: ["ES", "MX", "CO", "AR", "CL", "PE", "US"], en: ["US", "GB"], pt: ["BR", "PT"] };
const KEYS = {
  ready: "keySpace",
  paused: "keySpace",
  listening: "keySpace",
  thinking: "keyEscape",
  speaking: "keyEscape",
};
const HELD = 400; // milliseconds from which a press ends when it is let go

const find = (id) => document.getElementById(id);
const kept = JSON.parse(localStorage.getItem(CHOICES) ?? "{}");
const conversation = new Conversation();
const player = new Player();
const microphone = new Microphone();
const voices = new Voices(new Microphone(), kept.voice ?? "default");
const connection = new Connection(async () => {
  const model = await readModel();
  await voices.load(model);
  return model;
});
const choices = () => ({ language: find("language").value || undefined, voice: voices.chosen });
const assistant = new Assistant(connection, microphone, player, conversation, choices);
const turns = new Turns(conversation, assistant, saveTurn);
const level = () => (assistant.state === "speaking" ? player.level : assistant.microphoneLevel);
const orb = new Orb(find("talk").querySelector("canvas"), level);
let problem = null; // {kind, detail} of the user's or the server's, until it is dismissed

// What is shown

const capital = (word) => word[0].toUpperCase() + word.slice(1);

function showState() {
  const { state, isHandsFree, isListening } = assistant;
  const free = isHandsFree && ["listening", "speaking"].includes(state) ? "Free" : "";
  const label = text(`state${capital(state)}`);
  if (find("state-told").textContent !== label) find("state-told").textContent = label;
  find("state").textContent = label;
  find("hint").querySelector("span").textContent = text(`hint${capital(state)}${free}`);
  find("hint").querySelector("kbd").textContent = KEYS[state] ? text(KEYS[state]) : "";
  const isBusy = state === "speaking" || state === "thinking";
  const [name, icon] = pressing(isBusy, isHandsFree, isListening);
  find("talk").ariaLabel = text(name);
  find("talk").querySelector("use").setAttribute("href", `#icon-${icon}`);
  find("talk").disabled = ["connecting", "waiting", "busy", "locked", "refused"].includes(state);
  if (orb.state !== state) orb.show(state);
  showProblem();
}

// What a press does: the words for it, and the icon.
function pressing(isBusy, isHandsFree, isListening) {
  if (isListening && !isHandsFree) return ["talkEnd", "send"];
  if (isListening) return isBusy ? ["interrupt", "stop"] : ["talkPause", "pause"];
  if (isBusy) return ["talkOver", "microphone"];
  return [isHandsFree ? "talkResume" : "talk", "microphone"];
}

function showProblem() {
  const { state, detail, pause } = connection;
  const isDown = ["waiting", "busy", "refused"].includes(state);
  const shown = isDown ? { kind: capital(state), detail } : problem;
  const element = find("problem");
  element.hidden = shown === null;
  if (shown === null) return;
  const values = { detail: shown.detail, seconds: Math.ceil(pause), host: location.host, origin: location.origin };
  const [title, remedy] = [text(`problem${shown.kind}`), text(`remedy${shown.kind}`, values)];
  if (element.querySelector("strong").textContent !== title) element.querySelector("strong").textContent = title;
  if (element.querySelector("p").textContent !== remedy) element.querySelector("p").textContent = remedy;
  element.querySelector(".act").hidden = !isDown;
  element.querySelector(".quiet").hidden = isDown;
}

function showLanguages() {
  const { languages, language } = connection.model;
  const names = new Intl.DisplayNames(pageLanguage(), { type: "language", languageDisplay: "standard" });
  const order = (code) => (FIRST.includes(code) ? FIRST.indexOf(code) : FIRST.length);
  const withRegions = (code) => [code, ...(REGIONS[code] ?? []).map((region) => `${code}-${region}`)];
  const codes = languages.toSorted((a, b) => order(a) - order(b)).flatMap(withRegions);
  const preferred = navigator.languages.flatMap((tag) => [tag, tag.split("-")[0]]);
  const wanted = [choices().language, kept.language, ...preferred, language, codes[0]];
  find("language").replaceChildren(...codes.map((code) => new Option(capital(names.of(code)), code)));
  find("language").value = wanted.find((code) => codes.includes(code));
}

function showPage() {
  document.documentElement.lang = pageLanguage();
  document.title = text("title");
  translate(document);
  find("private").textContent = text("private", { host: location.host });
  const examples = text("examples").map((example) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = example;
    button.addEventListener("click", () => assistant.write(example));
    item.append(button);
    return item;
  });
  find("welcome")
    .querySelector("ul")
    .replaceChildren(...examples);
  if (connection.model) showLanguages();
  voices.show();
  turns.showAll();
  showState();
}

// What the user does

function keepChoices() {
  localStorage.setItem(CHOICES, JSON.stringify({ ...choices(), isHandsFree: assistant.isHandsFree }));
  assistant.configure();
}

function pressed() {
  problem = null;
  const { state, isHandsFree } = assistant;
  if (isHandsFree && state === "listening") assistant.pause();
  else if (assistant.isListening && !isHandsFree) assistant.ask();
  else if (isHandsFree && assistant.isListening) assistant.interrupt();
  else assistant.listen();
}

// A press that is held ends when it is let go; a short one lasts until the next one.
let pressedAt = null;

function pressDown() {
  const wasListening = assistant.isListening;
  pressed();
  pressedAt = wasListening || assistant.isHandsFree ? null : performance.now();
}

function pressUp() {
  if (pressedAt !== null && performance.now() - pressedAt > HELD) assistant.ask();
  pressedAt = null;
}

const talk = find("talk");
talk.addEventListener("pointerdown", (event) => event.button === 0 && pressDown());
window.addEventListener("pointerup", pressUp);
window.addEventListener("pointercancel", pressUp);
talk.addEventListener("contextmenu", (event) => event.preventDefault());
talk.addEventListener("click", ({ detail }) => detail === 0 && pressed()); // by Enter, or a screen reader

const isSpace = ({ code, target }) => code === "Space" && (target === document.body || target === talk);
window.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") assistant.interrupt();
  if (!isSpace(event) || talk.disabled) return;
  event.preventDefault();
  if (!event.repeat) pressDown();
});
window.addEventListener("keyup", (event) => {
  if (!isSpace(event)) return;
  event.preventDefault(); // or the button would be clicked
  pressUp();
});

find("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = find("question").value.trim();
  if (!question) return;
  problem = null;
  find("question").value = "";
  assistant.write(question);
});

find("mode").addEventListener("change", ({ target }) => {
  assistant.setHandsFree(target.value === "free");
  keepChoices();
  if (target.value === "free") assistant.listen();
});
find("language").addEventListener("change", keepChoices);
voices.addEventListener("change", keepChoices);
voices.addEventListener("open", () => (assistant.isListening || microphone.isOpen) && assistant.pause());

find("page-language").addEventListener("click", () => {
  switchPageLanguage();
  showPage();
});
find("fresh").addEventListener("click", () => {
  problem = null;
  assistant.startOver();
});
find("problem")
  .querySelector(".act")
  .addEventListener("click", () => connection.open());
find("problem")
  .querySelector(".quiet")
  .addEventListener("click", () => {
    problem = null;
    showProblem();
  });

find("key-dialog").addEventListener("close", () => {
  if (find("key").value) writeKey(find("key").value);
  find("key").value = "";
  connection.open();
});

// Files

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (ending) => `hfpipe-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.${ending}`;

function saveTurn(turn) {
  save(toWav(concatenate(turn.pieces)), fileName("wav"));
}

find("save-text").addEventListener("click", () => save(conversation.toText(), fileName("txt")));
find("save-json").addEventListener("click", () =>
  save(conversation.toJson(connection.model?.model), fileName("json")),
);
find("save-sound").addEventListener("click", () => save(conversation.toSound(), fileName("wav")));
find("save-menu").addEventListener("toggle", () => {
  for (const name of ["text", "json"]) find(`save-${name}`).disabled = conversation.turns.length === 0;
  find("save-sound").disabled = !conversation.turns.some(length);
});

// How the server is doing

connection.addEventListener("state", () => {
  if (connection.state === "locked" && !find("key-dialog").open) {
    find("key-dialog").querySelector(".wrong").textContent = readKey() ? text("keyWrong") : "";
    find("key-dialog").showModal();
  }
  if (connection.state !== "open") return;
  find("model").textContent = connection.model.model;
  showLanguages();
});
assistant.addEventListener("state", showState);
assistant.addEventListener("problem", ({ detail }) => {
  problem = detail;
  showState();
});
window.addEventListener("online", () => connection.state === "waiting" && connection.open());

if (kept.isHandsFree) {
  find("mode").querySelector("[value=free]").checked = true;
  assistant.isHandsFree = true;
}
if (!window.isSecureContext) problem = { kind: "Insecure", detail: "" };
showPage();
connection.open();
