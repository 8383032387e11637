// The conversation with the server: what is sent when, and what each event of the Realtime API means.

import { speak } from "./api.js";
import { concatenate, fromBase64, loudness, RATE, Tape, toBase64 } from "./sound.js";

const PCM = { type: "audio/pcm", rate: RATE };
const SHORTEST = 300; // milliseconds of a question
const TAPE = 120; // seconds from which turns are cut
const RESTING = 30; // seconds for which the microphone stays open between pressed questions
const HARMLESS = ["response_cancel_not_active", "session_expired"]; // codes of errors: the answer was whole; idle
const REQUEST = "request"; // what errors call the request for an answer

// Tells "state" when what it does changes, and "problem" with {kind, detail}.
export class Assistant extends EventTarget {
  isHandsFree = false;
  microphoneLevel = 0;
  #connection;
  #microphone;
  #player;
  #conversation;
  #choices;
  #isOpening = false; // the microphone
  #isRecording = false; // of a pressed question
  #resting = null; // a timer
  #pressedAt = 0; // of the tape
  #pressed = []; // ranges of the tape, [start, end], of pressed questions whose items aren't known yet
  #spoken = new Map(); // ranges by item, of those that the server found
  #tape = new Tape(TAPE);
  #isAsked = false; // a response is expected
  #isUnasked = false; // and isn't wanted any more
  #response = null; // the id of the one that is wanted and being made
  #askedAt = null; // when the question ended
  #hearing = undefined; // seconds until its words were known, for answers that don't tell
  #repeat = null; // an AbortController while an answer is heard again

  // choices() gives what the user chose: {language, voice}.
  constructor(connection, microphone, player, conversation, choices) {
    super();
    this.#connection = connection;
    this.#microphone = microphone;
    this.#player = player;
    this.#conversation = conversation;
    this.#choices = choices;
    connection.addEventListener("event", ({ detail }) => this.#receive(detail));
    connection.addEventListener("state", () => this.#connectionChanged());
    player.addEventListener("change", () => this.#playerChanged());
  }

  // connecting, waiting, busy, locked, refused; opening, listening, thinking, speaking, paused, ready
  get state() {
    if (this.#connection.state !== "open") return this.#connection.state;
    if (this.#isOpening) return "opening";
    if (this.#isRecording) return "listening";
    if (this.#player.isPlaying) return "speaking";
    if (this.#isAsked || this.#response || this.#repeat) return "thinking";
    if (!this.isHandsFree) return "ready";
    return this.#microphone.isOpen ? "listening" : "paused";
  }

  get isListening() {
    return this.#isRecording || (this.isHandsFree && this.#microphone.isOpen);
  }

  // Names what is being heard; null while nothing is.
  get playing() {
    return this.#player.isPlaying ? this.#player.id : null;
  }

  // Tells the server what the user chose.
  configure() {
    const { language, voice } = this.#choices();
    const turn_detection = this.isHandsFree ? { type: "semantic_vad" } : null;
    const input = { format: PCM, turn_detection, transcription: { model: "whisper", language } };
    const audio = { input, output: { format: PCM, voice } };
    this.#connection.send({
      type: "session.update",
      session: { type: "realtime", output_modalities: ["audio"], audio },
    });
  }

  // Changes between pressing and hands-free.
  setHandsFree(isHandsFree) {
    this.#stopRecording();
    this.#microphone.close();
    this.isHandsFree = isHandsFree;
    this.#connection.send({ type: "input_audio_buffer.clear" });
    this.configure();
    this.#tellState();
  }

  // The user begins to ask by pressing, or lets the microphone listen.
  async listen() {
    if (this.#connection.state !== "open" || this.isListening || this.#isOpening) return;
    this.#player.unlock();
    if (!this.isHandsFree) this.interrupt();
    const isReady = await this.#openMicrophone();
    if (!isReady) return;
    this.#connection.send({ type: "input_audio_buffer.clear" });
    this.#isRecording = !this.isHandsFree;
    this.#pressedAt = this.#tape.now;
    this.#tellState();
  }

  async #openMicrophone() {
    if (this.#microphone.isOpen) return true;
    this.#isOpening = true;
    this.#tellState();
    try {
      await this.#microphone.open((block) => this.#hear(block));
      return this.#microphone.isOpen;
    } catch (error) {
      this.#tellProblem(error.kind, error.message);
      return false;
    } finally {
      this.#isOpening = false;
      this.#tellState();
    }
  }

  #hear(block) {
    if (!this.isListening || this.#connection.state !== "open") return;
    this.microphoneLevel = loudness(block, 32768);
    this.#tape.push(block);
    this.#connection.send({ type: "input_audio_buffer.append", audio: toBase64(block) });
  }

  // The user has asked by pressing: sends the question.
  ask() {
    if (!this.#isRecording) return;
    const range = [this.#pressedAt, this.#tape.now];
    this.#stopRecording();
    if (range[1] - range[0] < SHORTEST) {
      this.#connection.send({ type: "input_audio_buffer.clear" });
      this.#tellProblem("Short");
    } else {
      this.#pressed.push(range);
      this.#connection.send({ type: "input_audio_buffer.commit" });
      this.#request();
    }
    this.#tellState();
  }

  #stopRecording() {
    this.#isRecording = false;
    this.microphoneLevel = 0;
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => this.isListening || this.#microphone.close(), RESTING * 1000);
  }

  // Asks in writing.
  write(question) {
    this.#player.unlock();
    this.interrupt();
    const id = `typed_${crypto.getRandomValues(new Uint32Array(2)).join("_")}`;
    const { language } = this.#choices();
    this.#conversation.begin(id, "user", { text: question, language, isDone: true });
    const content = [{ type: "input_text", text: question }];
    this.#connection.send({ type: "conversation.item.create", item: { id, type: "message", role: "user", content } });
    this.#request();
    this.#tellState();
  }

  #request() {
    this.#isAsked = true;
    this.#askedAt = performance.now();
    this.#connection.send({ type: "response.create", event_id: REQUEST });
  }

  // Lets go of the microphone: hands-free is paused.
  pause() {
    this.#stopRecording();
    this.#microphone.close();
    this.#connection.send({ type: "input_audio_buffer.clear" });
    this.#tellState();
  }

  // Falls silent, and tells the server how much was heard of the answer.
  interrupt() {
    if (this.#response) {
      this.#connection.send({ type: "response.cancel", response_id: this.#response });
    } else if (this.#isAsked) {
      this.#isUnasked = true;
    }
    this.#silence();
  }

  #silence() {
    this.#repeat?.abort();
    this.#repeat = null;
    const wasPlaying = this.#player.isPlaying;
    const milliseconds = this.#player.stop();
    const answer = wasPlaying ? this.#conversation.find(this.#player.id) : this.#conversation.answerTo(this.#response);
    if (answer && !answer.cut) {
      const heard = answer.id === this.#player.id ? milliseconds : 0;
      this.#conversation.change(answer, { cut: "cut" });
      this.#connection.send({
        type: "conversation.item.truncate",
        item_id: answer.id,
        content_index: 0,
        audio_end_ms: heard,
      });
      this.#connection.send({ type: "conversation.item.retrieve", item_id: answer.id });
    }
    this.#response = null;
    this.#isAsked = false;
    this.#tellState();
  }

  // Plays an answer once more, as it was, or made anew in a voice.
  async repeat(turn, voice) {
    this.#player.unlock();
    const wasRepeated = this.#player.isPlaying && this.#player.id === repeated(turn, voice);
    this.interrupt();
    if (wasRepeated) return;
    if (voice === turn.voice && turn.pieces.length) {
      return this.#player.play(repeated(turn, voice), concatenate(turn.pieces));
    }
    const repeat = (this.#repeat = new AbortController());
    this.#tellState();
    try {
      const { language } = this.#choices();
      await speak(turn.text, voice, turn.language ?? language, repeat.signal, (samples) => {
        if (this.#repeat === repeat) this.#player.play(repeated(turn, voice), samples);
      });
    } catch (error) {
      if (error.name !== "AbortError") this.#tellProblem("Server", error.message);
    } finally {
      if (this.#repeat === repeat) this.#repeat = null;
      this.#tellState();
    }
  }

  // Whether an answer is being played once more, in a voice.
  isRepeating(turn, voice) {
    return this.playing === repeated(turn, voice);
  }

  // Forgets the conversation, in a new session.
  startOver() {
    this.#silence();
    this.#conversation.drop();
    this.#connection.open();
  }

  #receive(event) {
    const handle = this.#handlers[event.type];
    if (!handle) return;
    handle(event);
    this.#tellState();
  }

  #handlers = {
    "session.created": () => this.#resume(),
    "input_audio_buffer.speech_started": ({ item_id, audio_start_ms }) => {
      this.#silence();
      this.#spoken.set(item_id, [audio_start_ms, Infinity]);
    },
    "input_audio_buffer.speech_stopped": ({ item_id, audio_end_ms }) => {
      if (this.#spoken.has(item_id)) this.#spoken.get(item_id)[1] = audio_end_ms;
      this.#isAsked = true;
      this.#askedAt = performance.now();
    },
    "input_audio_buffer.committed": ({ item_id }) => {
      const turn = this.#conversation.begin(item_id, "user", { language: this.#choices().language });
      const range = this.#spoken.get(item_id) ?? this.#pressed.shift();
      this.#spoken.delete(item_id);
      if (range) this.#conversation.addSound(turn, this.#tape.cut(...range));
    },
    "conversation.item.added": ({ item }) => {
      if (item.role === "user") this.#conversation.begin(item.id, "user", { language: this.#choices().language });
    },
    "conversation.item.input_audio_transcription.delta": ({ item_id, delta }) => this.#append(item_id, delta),
    "conversation.item.input_audio_transcription.completed": ({ item_id, transcript }) => {
      if (!transcript.trim()) this.#isAsked = false; // nobody said a word, so nothing is answered
      this.#hearing = this.#askedAt === null ? undefined : (performance.now() - this.#askedAt) / 1000;
      this.#changeTurn(item_id, { text: transcript.trim(), isDone: true });
    },
    "conversation.item.input_audio_transcription.failed": ({ item_id }) => {
      this.#isAsked = false;
      this.#changeTurn(item_id, { isDone: true });
    },
    "conversation.item.retrieved": ({ item }) => {
      const said =
        item.content
          ?.map((part) => part.transcript ?? part.text ?? "")
          .join(" ")
          .trim() ?? "";
      if (item.role === "assistant") this.#changeTurn(item.id, { heard: said });
    },
    "response.created": ({ response }) => {
      if (this.#isUnasked) this.#connection.send({ type: "response.cancel", response_id: response.id });
      else this.#response = response.id;
      this.#isAsked = this.#isUnasked = false;
    },
    "response.output_item.added": ({ response_id, item }) => {
      if (item.role !== "assistant") return;
      const { language, voice } = this.#choices();
      this.#conversation.begin(item.id, "assistant", { language, voice, response: response_id });
    },
    "response.output_audio_transcript.delta": ({ item_id, delta }) => this.#append(item_id, delta),
    "response.output_audio_transcript.done": ({ item_id, transcript }) => {
      const isCut = this.#conversation.find(item_id)?.cut; // then these are the words that were heard
      this.#changeTurn(item_id, isCut ? { heard: transcript } : { text: transcript });
    },
    "response.output_audio.delta": ({ response_id, item_id, delta }) => {
      if (response_id !== this.#response) return; // interrupted
      const samples = fromBase64(delta);
      this.#conversation.addSound(this.#conversation.find(item_id), samples);
      this.#player.play(item_id, samples);
    },
    "response.done": ({ response }) => this.#finish(response),
    error: ({ error }) => {
      if (error.event_id === REQUEST) this.#isAsked = this.#isUnasked = false;
      if (this.#connection.state !== "open" || HARMLESS.includes(error.code)) return;
      this.#tellProblem("Server", error.message);
    },
  };

  #append(id, delta) {
    const turn = this.#conversation.find(id);
    if (turn) this.#conversation.change(turn, { text: turn.text + delta });
  }

  #changeTurn(id, values) {
    const turn = this.#conversation.find(id);
    if (turn) this.#conversation.change(turn, values);
  }

  #finish(response) {
    if (response.id === this.#response) this.#response = null;
    const turn = this.#conversation.answerTo(response.id);
    const hearing = this.#hearing === undefined ? {} : { asr: this.#hearing };
    if (turn)
      this.#conversation.change(turn, { isDone: true, times: { ...turn.times, ...hearing, ...times(response) } });
    this.#hearing = undefined;
    if (response.status === "failed") {
      this.#tellProblem("Cut", response.status_details?.error?.message ?? "");
    }
  }

  // Sets up a session, which goes on where the last one was lost.
  #resume() {
    this.configure();
    this.#tape = new Tape(TAPE);
    this.#pressed = [];
    this.#spoken.clear();
    this.#isUnasked = false;
    const { items } = this.#conversation;
    for (const item of items) this.#connection.send({ type: "conversation.item.create", item });
    if (this.#isAsked && items.at(-1)?.role === "user") this.#request();
    else this.#isAsked = false;
  }

  #connectionChanged() {
    if (this.#connection.state !== "open") {
      this.#stopRecording();
      for (const turn of this.#conversation.turns.filter((each) => !each.isDone)) {
        this.#conversation.change(turn, { isDone: true, cut: turn.cut ?? "lost" });
      }
      this.#isAsked ||= this.#response !== null;
      this.#response = null;
    }
    this.#tellState();
  }

  #playerChanged() {
    const turn = this.#conversation.find(this.#player.id);
    if (this.#player.isPlaying && this.#askedAt !== null && turn) {
      const heard = (performance.now() - this.#askedAt) / 1000;
      this.#askedAt = null;
      this.#conversation.change(turn, { times: { ...turn.times, heard } });
    }
    this.#tellState();
  }

  #tellState() {
    this.dispatchEvent(new Event("state"));
  }

  #tellProblem(kind, detail = "") {
    this.dispatchEvent(new CustomEvent("problem", { detail: { kind, detail } }));
  }
}

// Names the sound of an answer that is heard again.
const repeated = (turn, voice) => `${turn.id} in ${voice}`;

// Reads the seconds by stage that a response tells.
function times({ metadata }) {
  const told = Object.entries(metadata ?? {}).filter(([name]) => name.startsWith("hfpipe."));
  return Object.fromEntries(told.map(([name, seconds]) => [name.slice("hfpipe.".length), Number(seconds)]));
}
