// The review queue in JupyterLab and in the app: two videos side by side, one slider over both, and keys.
// Python decides what is asked and writes the answers; see queue.py.

const KEYS = { s: "same", d: "different", v: "version", 1: "keep first", 2: "keep second", n: "skip", u: "undo" };

const BUTTONS = [
  ["same", "Same", "s", "Both show the same video: one of them is kept"],
  ["keep first", "Same, keep first", "1", "Both show the same video: keep the first"],
  ["keep second", "Same, keep second", "2", "Both show the same video: keep the second"],
  ["different", "Different", "d", "They are different videos: both are kept"],
  ["version", "Version", "v", "One film with another price, language or product"],
  ["skip", "Skip", "n", "Decide later: the pair comes back once, at the end"],
  ["undo", "Undo", "u", "Take back the last answer and show its pair again"],
];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function sayTime(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

// One video: its frames from a sheet, or the film itself.
class Screen {
  constructor(name) {
    this.canvas = make("canvas", { role: "img", width: 208, height: 117 });
    this.time = make("span", { class: "time" });
    this.title = make("p", { class: "title" });
    this.facts = make("p", { class: "soft" });
    this.stage = make("div", { class: "stage" }, this.canvas);
    this.element = make("section", { "aria-label": name }, make("h4", {}, name, " ", this.time), this.stage, this.title, this.facts);
    this.name = name;
    this.film = null;
  }

  load(video) {
    this.stop();
    this.video = video;
    this.sheet = null;
    const link = video.href
      ? make("a", { href: video.href, target: "_blank", rel: "noreferrer noopener", title: video.href }, video.url)
      : make("span", {}, video.url);
    const [first, ...others] = video.caption.map(([column, cell]) => make("span", { title: column }, cell));
    if (first) first.classList.add("name");
    this.title.replaceChildren(...[first, ...others, link].filter(Boolean).flatMap((part, at) => (at ? [" · ", part] : [part])));
    this.facts.replaceChildren(video.facts);
    if (video.sheet) {
      const sheet = new Image();
      sheet.addEventListener("load", () => {
        this.sheet = sheet;
        this.draw();
      });
      sheet.src = video.sheet;
    }
    this.draw();
  }

  show(frame) {
    this.frame = frame;
    this.draw();
  }

  draw() {
    const [width, height] = this.video.frame_px;
    const context = this.canvas.getContext("2d");
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    context.clearRect(0, 0, width, height);
    const isThere = this.frame !== null && this.frame !== undefined && this.sheet;
    if (isThere) {
      const columns = Math.floor(this.sheet.naturalWidth / width);
      const [row, column] = [Math.floor(this.frame / columns), this.frame % columns];
      context.drawImage(this.sheet, column * width, row * height, width, height, 0, 0, width, height);
      this.outline(context, width, height);
    }
    const words = this.video.sheet ? (isThere ? sayTime(this.video.times_s[this.frame]) : "not in this part") : "no picture";
    this.time.textContent = words;
    this.canvas.setAttribute("aria-label", `${this.name} at ${words}`);
  }

  // Around the region that differs, a white line with black on both sides.
  outline(context, width, height) {
    if (!this.video.outline) return;
    const [left, top, right, bottom] = this.video.outline;
    for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: line });
      context.strokeRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
    }
  }

  // Plays the film from a time on; `fail` is told when the browser cannot.
  play(time_s, rate, fail) {
    this.film = make("video", { playsinline: "", controls: "" });
    Object.assign(this.film, { muted: true, playbackRate: rate, currentTime: Math.max(0, time_s) });
    this.film.addEventListener("error", fail);
    this.film.src = this.video.href;
    this.stage.replaceChildren(this.film);
    this.film.play().catch(fail);
  }

  stop() {
    if (!this.film) return;
    this.film.removeAttribute("src");
    this.film.load();
    this.film = null;
    this.stage.replaceChildren(this.canvas);
  }
}

function render({ model, el }) {
  const root = make("div", { class: "dedup-queue", tabindex: "0", role: "group", "aria-label": "Review queue" });
  // JupyterLab has keys of its own: 1 makes a heading, d d deletes a cell.
  root.dataset.lmSuppressShortcuts = "true";
  const progress = make("p", { role: "status", class: "decided" });
  const screens = [new Screen("First"), new Screen("Second")];
  const both = make("div", { class: "screens" }, ...screens.map((screen) => screen.element));
  const slider = make("input", { type: "range", min: "0", step: "1", "aria-label": "moment in both videos" });
  const play = make("button", { type: "button", title: "Play both videos from here, as far as this browser can (p)" }, "Play");
  const scrub = make("div", { class: "scrub" }, slider, play);
  const said = make("p", { class: "said" });
  const legend = make("p", { class: "soft" });
  const soFar = make("p", { class: "soft" });
  const buttons = new Map(BUTTONS.map(([word, words, key, title]) => [
    word,
    make("button", { type: "button", title: `${title} (${key})`, "aria-keyshortcuts": key, class: word.replace(" ", "-") }, words, make("kbd", {}, key)),
  ]));
  const message = make("p", { role: "alert" });
  const measures = make("details", {}, make("summary", {}, "Every measure"), make("dl"));
  const asked = make("div", {}, both, legend, scrub, said, soFar);
  const nothing = make("p");
  root.append(progress, nothing, asked, make("div", { class: "answers" }, ...buttons.values()), message, measures);
  el.append(root);

  let isPlaying = false;

  function stop() {
    isPlaying = false;
    play.textContent = "Play";
    for (const screen of screens) screen.stop();
  }

  function scrubTo(at) {
    slider.value = String(at);
    const question = model.get("question");
    const moment = question?.moments[Number(slider.value)] ?? [null, null];
    moment.forEach((frame, side) => screens[side].show(frame));
    slider.setAttribute("aria-valuetext", screens.map((screen) => `${screen.name} ${screen.time.textContent}`).join(", "));
  }

  function toggle() {
    if (isPlaying) return stop();
    const question = model.get("question");
    if (!question || !question.first.href || !question.second.href) return;
    const moment = question.moments[Number(slider.value)] ?? [0, 0];
    const fail = () => {
      if (!isPlaying) return;
      stop();
      message.textContent = "This browser cannot play one of the two videos: the frames show what was compared.";
    };
    isPlaying = true;
    play.textContent = "Stop";
    screens.forEach((screen, side) => {
      const times_s = screen.video.times_s;
      screen.play(times_s[moment[side] ?? 0] ?? 0, side ? 1 / question.speed : 1, fail);
    });
  }

  function update() {
    stop();
    const question = model.get("question");
    progress.textContent = model.get("progress");
    message.textContent = model.get("message");
    nothing.textContent = model.get("nothing");
    nothing.hidden = Boolean(question);
    asked.hidden = measures.hidden = !question;
    for (const [word, button] of buttons) button.disabled = word === "undo" ? !model.get("can_undo") : !question;
    if (!question) return;
    [question.first, question.second].forEach((video, side) => screens[side].load(video));
    slider.max = String(Math.max(0, question.moments.length - 1));
    play.hidden = !(question.first.href && question.second.href);
    said.replaceChildren(...(question.score ? [make("strong", {}, question.score), ": "] : []), `${question.explained}.`);
    soFar.textContent = question.so_far;
    legend.textContent = question.legend;
    legend.hidden = !question.legend;
    const rows = question.measures.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
    measures.querySelector("dl").replaceChildren(...rows);
    scrubTo(question.start);
  }

  function answer(word) {
    if (!buttons.get(word).disabled) model.send({ answer: word, asked: model.get("asked") });
  }

  for (const [word, button] of buttons) {
    button.addEventListener("click", () => {
      answer(word);
      root.focus({ preventScroll: true });
    });
  }
  slider.addEventListener("input", () => {
    stop();
    scrubTo(Number(slider.value));
  });
  play.addEventListener("click", toggle);

  function onKey(event) {
    const inside = root.contains(event.target);
    // The page hears keys too, as long as nothing else on it has the focus.
    if (event.ctrlKey || event.metaKey || event.altKey || !(inside || event.target === document.body)) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const word = KEYS[event.key.toLowerCase()];
    if (word) {
      // A key that is held down would answer pairs that nobody has seen.
      if (!event.repeat) answer(word);
    } else if (event.key.toLowerCase() === "p") toggle();
    else if (by && event.target !== slider) scrubTo(Number(slider.value) + by);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  document.addEventListener("keydown", onKey);

  const names = ["question", "progress", "message", "nothing", "can_undo"];
  const changed = () => queueMicrotask(update);
  for (const name of names) model.on(`change:${name}`, changed);
  update();
  return () => {
    document.removeEventListener("keydown", onKey);
    for (const name of names) model.off(`change:${name}`, changed);
  };
}

export default { render };
