// A living circle: it breathes while it waits, grows with the voice that it hears or makes, and turns while it thinks.

const RADIUS = 0.6; // of the canvas's half
const BODY = { phase: 4.2, speed: 0.9 };
const HALOS = [
  { phase: 0.0, speed: 0.7, reach: 1.2, alpha: 0.1 },
  { phase: 2.1, speed: -0.5, reach: 1.1, alpha: 0.22 },
];
const CLOUDS = [
  { color: "deep", phase: 0.9, speed: 0.8, distance: 0.42, size: 0.75 },
  { color: "deep", phase: 3.4, speed: -0.6, distance: 0.5, size: 0.6 },
  { color: "light", phase: 4.4, speed: 1.0, distance: 0.3, size: 0.62 },
  { color: "light", phase: 2.4, speed: -1.2, distance: 0.36, size: 0.42 },
];
const POINTS = 72;
const CALM = { wobble: 0.02, gain: 0, spin: 0.25 };
const MOODS = {
  listening: { wobble: 0.03, gain: 0.22, spin: 0.9 },
  thinking: { wobble: 0.06, gain: 0, spin: 2.4 },
  speaking: { wobble: 0.04, gain: 0.2, spin: 1.3 },
  ready: CALM,
};
const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
const SETTLED = 4; // seconds after which a calm circle isn't drawn anew

export class Orb {
  state = "connecting";
  #canvas;
  #level;
  #shown = 0; // level, smoothed
  #mood = { ...CALM };
  #turned = 0; // radians
  #calm = 0; // seconds
  #last = 0;
  #isRunning = false;

  // level() gives the loudness between 0 and 1.
  constructor(canvas, level) {
    this.#canvas = canvas;
    this.#level = level;
    new ResizeObserver(() => this.wake()).observe(canvas);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.wake());
  }

  show(state) {
    this.state = state;
    this.#canvas.parentElement.dataset.state = state;
    this.wake();
  }

  wake() {
    this.#calm = 0;
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#last = performance.now();
    requestAnimationFrame((now) => this.#frame(now));
  }

  #frame(now) {
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const isLively = this.state in MOODS && this.state !== "ready";
    this.#calm = isLively ? 0 : this.#calm + seconds;
    this.#isRunning = this.#calm < SETTLED;
    this.#settle(seconds);
    this.#draw();
    if (!this.#isRunning) return;
    if (STILL.matches) setTimeout(() => requestAnimationFrame((next) => this.#frame(next)), 120);
    else requestAnimationFrame((next) => this.#frame(next));
  }

  #settle(seconds) {
    const level = this.#level();
    const haste = level > this.#shown ? 18 : 5; // it rises fast, and falls slowly
    this.#shown += (level - this.#shown) * Math.min(1, haste * seconds);
    const mood = MOODS[this.state] ?? CALM;
    for (const name of Object.keys(mood)) {
      this.#mood[name] += (mood[name] - this.#mood[name]) * Math.min(1, 4 * seconds);
    }
    if (!STILL.matches) this.#turned += this.#mood.spin * seconds * (1 + 1.5 * this.#shown);
  }

  #draw() {
    const { clientWidth: size } = this.#canvas;
    const pixels = Math.round(size * Math.min(2, window.devicePixelRatio));
    if (this.#canvas.height !== pixels) this.#canvas.width = this.#canvas.height = pixels;
    const context = this.#canvas.getContext("2d");
    context.setTransform(pixels / 2, 0, 0, pixels / 2, pixels / 2, pixels / 2); // from -1 to 1
    context.clearRect(-1, -1, 2, 2);
    const style = getComputedStyle(this.#canvas);
    const [light, main, deep] = ["light", "main", "deep"].map((name) => style.getPropertyValue(`--orb-${name}`));
    for (const halo of HALOS) {
      this.#outline(context, RADIUS * halo.reach * (1 + this.#mood.gain * this.#shown), halo, 1);
      context.globalAlpha = halo.alpha;
      context.fillStyle = main;
      context.fill();
    }
    context.globalAlpha = 1;
    context.save();
    this.#outline(context, RADIUS * (1 + 0.3 * this.#mood.gain * this.#shown), BODY, 0.5);
    context.clip();
    context.fillStyle = main;
    context.fillRect(-1, -1, 2, 2);
    for (const cloud of CLOUDS) this.#drawCloud(context, cloud, { light, deep }[cloud.color]);
    context.restore();
  }

  // Begins a path around the middle that is a circle, or nearly so.
  #outline(context, radius, { phase, speed }, share) {
    const turn = this.#turned * speed + phase;
    const wobble = STILL.matches ? 0 : share * (this.#mood.wobble + 0.3 * this.#mood.gain * this.#shown);
    context.beginPath();
    for (let i = 0; i < POINTS; i++) {
      const angle = (i / POINTS) * 2 * Math.PI;
      const wave =
        Math.sin(2 * angle + turn) + 0.6 * Math.sin(3 * angle - 1.7 * turn) + 0.3 * Math.sin(5 * angle + 2.3 * turn);
      const reached = radius * (1 + wobble * wave);
      context.lineTo(reached * Math.cos(angle), reached * Math.sin(angle));
    }
    context.closePath();
  }

  #drawCloud(context, { phase, speed, distance, size }, color) {
    const turn = this.#turned * speed + phase;
    const [x, y] = [distance * Math.cos(turn), distance * Math.sin(1.3 * turn)];
    const reach = size * (1 + 0.5 * this.#shown);
    const fill = context.createRadialGradient(x, y, 0, x, y, reach);
    fill.addColorStop(0, color);
    fill.addColorStop(1, `rgb(from ${color} r g b / 0)`);
    context.fillStyle = fill;
    context.fillRect(-1, -1, 2, 2);
  }
}
