// The server's HTTP API, with the key where it asks for one. The key stays in this tab.

const KEY = "hfpipe.key";
const UNTIL = 8_000; // milliseconds within which the server must answer what takes no computing

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0 where the server can't be reached
  }
}

export const readKey = () => sessionStorage.getItem(KEY);
export const writeKey = (key) => sessionStorage.setItem(KEY, key);

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = readKey();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted && error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new ApiError(response.status, body?.error?.message ?? `HTTP ${response.status}`);
  }
  return response;
}

// Describes the model: {model, language, languages, saves_voices, clones}.
export async function readModel() {
  return (await call("page/model", { signal: AbortSignal.timeout(UNTIL) })).json();
}

export async function listVoices() {
  return (await (await call("v1/audio/voices")).json()).data;
}

export async function saveVoice(name, sample, consentBy) {
  const form = new FormData();
  form.set("name", name);
  form.set("consent_by", consentBy);
  form.set("consent_on", new Date().toISOString().slice(0, 10));
  form.set("audio_sample", sample, "sample");
  return (await call("v1/audio/voices", { method: "POST", body: form })).json();
}

export async function deleteVoice(name) {
  await call(`v1/audio/voices/${encodeURIComponent(name)}`, { method: "DELETE" });
}

// Passes the speech of a text to onSamples, as it is made.
export async function speak(input, voice, language, signal, onSamples) {
  const body = JSON.stringify({ input, voice, language, response_format: "pcm" });
  const headers = { "Content-Type": "application/json" };
  const reader = (await call("v1/audio/speech", { method: "POST", headers, body, signal })).body.getReader();
  let rest = new Uint8Array(0);
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const bytes = new Uint8Array(rest.length + part.value.length);
    bytes.set(rest);
    bytes.set(part.value, rest.length);
    const whole = bytes.length - (bytes.length % 2);
    onSamples(new Int16Array(bytes.buffer.slice(0, whole)));
    rest = bytes.slice(whole);
  }
}

// Opens the Realtime API; a key goes as OpenAI's own browser clients send it.
export function openRealtime(model) {
  const url = new URL(`v1/realtime?model=${encodeURIComponent(model)}`, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const key = readKey();
  return new WebSocket(url, key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"]);
}
