"use strict";
// The only script of the overview: colours, sorting and searching of tables and groups, and the threshold slider.
// Without it the page shows all the same; what needs it is hidden until here.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const number = new Intl.NumberFormat("en");

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // Colours: as the system has them, light, or dark.

  const THEMES = ["", "light", "dark"];
  const THEME_WORDS = { "": "automatic", light: "light", dark: "dark" };

  function remember(theme) {
    // A file may have no storage of its own.
    try { localStorage.setItem("theme", theme); } catch { /* Forgotten, then. */ }
  }

  function recall() {
    try { return localStorage.getItem("theme") || ""; } catch { return ""; }
  }

  function setTheme(theme, button) {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = `Colours: ${THEME_WORDS[theme]}`;
  }

  for (const button of all("[data-theme-button]")) {
    let theme = THEMES.includes(recall()) ? recall() : "";
    setTheme(theme, button);
    button.hidden = false;
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      setTheme(theme, button);
      remember(theme);
    });
  }

  // Tables: a click on a heading sorts by it, another one the other way round.

  function valueOf(row, column) {
    const text = row.cells[column].textContent.trim();
    const value = Number(text.replace(/,/g, ""));
    return text !== "" && Number.isFinite(value) ? value : text.toLowerCase();
  }

  function compare(one, other) {
    if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
    return typeof one === "number" ? -1 : 1;
  }

  function sortBy(table, heading) {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [valueOf(row, heading.cellIndex), row]);
    keyed.sort(([one], [other]) => compare(one, other) * (direction === "ascending" ? 1 : -1));
    body.append(...keyed.map(([, row]) => row));
  }

  for (const table of all("table.sortable")) {
    for (const heading of all("thead th", table)) {
      const button = make("button", { type: "button" }, ...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, heading));
      heading.append(button);
    }
  }

  // Searching: every word of the search must occur in a row of a table, or in a group.

  function search(items, words, isWanted = () => true) {
    let found = 0;
    for (const item of items) {
      item.words ??= item.element.textContent.toLowerCase();
      const shows = words.every((word) => item.words.includes(word)) && isWanted(item);
      if (item.element.hidden === shows) item.element.hidden = !shows;
      found += shows;
    }
    return found;
  }

  const KINDS = {
    "": () => true,
    excerpt: (item) => all(".badge", item.element).some((badge) => badge.textContent === "excerpt"),
    later: (item) => / s (later|earlier)/.test(item.words),
    large: (item) => all(".video", item.element).length > 2,
  };

  for (const tools of all("[data-tools]")) {
    const input = tools.querySelector("input");
    const kind = tools.querySelector("[data-kind]");
    const said = tools.querySelector("[data-found]");
    const isOfSheets = input.dataset.filter === "sheets";
    const elements = isOfSheets ? all("#sheets > .sheet") : all("tbody tr", tools.parentElement);
    const items = elements.map((element) => ({ element }));
    const update = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = kind ? KINDS[kind.value] : undefined;
      const found = search(items, words, wanted);
      said.textContent = `${number.format(found)} of ${number.format(items.length)} ${said.dataset.of}`;
    };
    input.addEventListener("input", update);
    kind?.addEventListener("change", update);
    tools.hidden = elements.length < 2;
    update();
  }

  // Enlarging: the frames of one moment in all rows of a set, side by side.

  const dialog = document.getElementById("enlarged");

  function enlarge(rows, moment) {
    const last = Math.max(...rows.map((row) => row.children.length)) - 1;
    const at = Math.min(last, Math.max(0, moment));
    const figures = rows.filter((row) => row.children[at]).map((row) => {
      const image = row.children[at];
      const words = `${row.dataset.label}, at ${image.dataset.time}`;
      return make("figure", {}, make("img", { src: image.src, alt: words }), make("figcaption", {}, words));
    });
    dialog.querySelector(".frames").replaceChildren(...figures);
    const legend = dialog.querySelector(".legend");
    legend.textContent = rows.map((row) => row.dataset.legend).find(Boolean) ?? "";
    legend.hidden = !legend.textContent;
    dialog.querySelector("[role=status]").textContent = `moment ${at + 1} of ${last + 1}`;
    dialog.step = (by) => enlarge(rows, at + by);
    if (!dialog.open) dialog.showModal();
  }

  if (dialog) {
    addEventListener("click", (event) => {
      const row = event.target.closest(".shots");
      if (!row) return;
      const rows = all(".shots", row.closest("article")).filter((other) => other.dataset.set === row.dataset.set);
      enlarge(rows, event.target === row ? 0 : [...row.children].indexOf(event.target));
    });
    for (const button of all("[data-step]", dialog)) button.addEventListener("click", () => dialog.step(Number(button.dataset.step)));
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) dialog.step(by);
    });
  }

  // A link to something folded away opens it.

  function unfold() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) folded.open = true;
  }
  addEventListener("hashchange", unfold);
  unfold();

  // What is folded away is printed too.

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });

  // The slider. All that it shows was decided when the page was made: see sweep.py.

  const MOST_SHOWN = 40;
  const FATES = { appear: "appears", vanish: "vanishes", change: "changes" };

  function stepAt(part, index) {
    let groups = part[0][1];
    for (const [start, found] of part) if (start <= index) groups = found;
    return new Map(groups);
  }

  // What became of the groups of each part: [fate, kept row, copies before, copies after].
  function compareSteps(part, decided, index) {
    const before = stepAt(part, decided);
    const after = stepAt(part, index);
    const found = [];
    for (const kept of new Set([...before.keys(), ...after.keys()])) {
      const [old, fresh] = [before.get(kept), after.get(kept)];
      if (!old) found.push(["appear", kept, [], fresh]);
      else if (!fresh) found.push(["vanish", kept, old, []]);
      else if (rowsOf(old) !== rowsOf(fresh)) found.push(["change", kept, old, fresh]);
    }
    return found;
  }

  const rowsOf = (copies) => copies.map(([row]) => row).join();

  function startSlider(sweep) {
    const decided = sweep.thresholds.indexOf(sweep.threshold);
    const slider = document.getElementById("threshold");
    const list = document.getElementById("changes");
    const pictures = new Map(all("[data-key]").map((shots) => [shots.dataset.key, all("img", shots).slice(0, 4).map((image) => image.src)]));
    const sheets = new Map(all(".sheet[data-kept]").map((sheet) => [sheet.dataset.kept, sheet]));
    const parts = sweep.parts.filter((part) => part.length > 1);
    let marked = [];

    function showVideo(row, role, words) {
      const [key, url] = sweep.videos[row];
      const sources = pictures.get(key) ?? (sweep.pictures[row] ? [sweep.pictures[row]] : []);
      const image = sources.length
        ? make("div", { class: "strip" }, ...sources.map((src) => make("img", { src, alt: "" })))
        : make("span", { class: "nopicture" }, "no picture");
      const badge = make("span", { class: "badge" }, make("span", { class: `dot ${role[1]}` }), role[0]);
      const text = make("div", {}, make("p", {}, badge, make("bdi", {}, url)), make("p", { class: "soft" }, words));
      return make("div", { class: "video" }, image, text);
    }

    function showCopy([row, similarity, rule], role) {
      const words = similarity === null ? sweep.rules[rule] : `${similarity.toFixed(4)}: ${sweep.rules[rule]}`;
      return showVideo(row, role, words);
    }

    function showChange([fate, kept, before, after]) {
      const was = new Set(before.map(([row]) => row));
      const stays = new Set(after.map(([row]) => row));
      const copies = [
        ...after.map((copy) => showCopy(copy, was.has(copy[0]) ? ["stays", "duplicate"] : ["joins", "duplicate"])),
        ...before.filter(([row]) => !stays.has(row)).map((copy) => showCopy(copy, ["leaves", "threshold"])),
      ];
      const title = make("h4", {}, make("span", { class: `fate ${fate}` }, FATES[fate]), ` a group of ${1 + Math.max(before.length, after.length)} videos`);
      const article = make("article", { class: "sheet", "data-fate": fate }, title, showVideo(kept, ["kept", "kept"], ""), ...copies.slice(0, 6));
      if (copies.length > 6) article.append(make("p", { class: "soft" }, `and ${number.format(copies.length - 6)} more`));
      return article;
    }

    function moveMark(chart, threshold) {
      const mark = chart.querySelector(".mark");
      const [start, end, low, high] = ["start", "end", "low", "high"].map((name) => Number(mark.dataset[name]));
      const share = high > low ? (threshold - low) / (high - low) : 0;
      const x = start + Math.min(1, Math.max(0, share)) * (end - start);
      mark.setAttribute("transform", `translate(${x} 0)`);
      const text = mark.querySelector("text");
      text.textContent = String(threshold);
      text.setAttribute("text-anchor", x > 400 ? "end" : x < 80 ? "start" : "middle");
    }

    const charts = all("#thresholds figure.chart");

    function show(index) {
      const threshold = sweep.thresholds[index];
      document.getElementById("at").textContent = String(threshold);
      slider.setAttribute("aria-valuetext", String(threshold));
      const removed = sweep.points.duplicates[index] - sweep.points.duplicates[decided];
      const counts = {
        final: [sweep.final - removed, sweep.final],
        ...Object.fromEntries(
          ["duplicates", "groups", "largest_group"].map((name) => [name, [sweep.points[name][index], sweep.points[name][decided]]]),
        ),
      };
      for (const [name, [now, before]] of Object.entries(counts)) {
        const cell = document.querySelector(`[data-count=${name}]`);
        const change = now - before;
        cell.replaceChildren(number.format(now));
        if (change) cell.append(make("span", { class: "soft" }, ` ${change > 0 ? "+" : "\u2212"}${number.format(Math.abs(change))}`));
      }
      for (const chart of charts) moveMark(chart, threshold);

      const [appear, vanish, change] = ["appear", "vanish", "change"].map((name) => sweep.changes[name][index]);
      const plural = (count, one, many) => `${number.format(count)} ${count === 1 ? one : many}`;
      document.getElementById("said").textContent = index === decided
        ? "This is the threshold that the run used."
        : appear + vanish + change === 0
          ? "The same groups as in the run."
          : `${plural(vanish, "group vanishes", "groups vanish")}, ${plural(appear, "appears", "appear")}, ${plural(change, "gains or loses copies", "gain or lose copies")}.`;

      const found = index === decided ? [] : parts.flatMap((part) => compareSteps(part, decided, index));
      const shown = found.slice(0, MOST_SHOWN).map(showChange);
      const heading = shown.length ? [make("h3", {}, `What changes at ${threshold}`)] : [];
      const total = appear + vanish + change;
      const rest = shown.length && total > shown.length
        ? [make("p", { class: "soft" }, `and ${number.format(total - shown.length)} more`)]
        : [];
      list.replaceChildren(...heading, ...shown, ...rest);

      for (const sheet of marked) {
        sheet.classList.remove("vanishing");
        sheet.querySelector("h3 .fate").hidden = true;
      }
      marked = [];
      for (const [fate, kept] of found) {
        const sheet = sheets.get(sweep.videos[kept][0]);
        if (!sheet) continue;
        const badge = sheet.querySelector("h3 .fate");
        badge.textContent = `${FATES[fate]} at ${threshold}`;
        badge.hidden = false;
        sheet.classList.toggle("vanishing", fate === "vanish");
        marked.push(sheet);
      }
    }

    slider.addEventListener("input", () => show(Number(slider.value)));
    document.getElementById("back").addEventListener("click", () => {
      slider.value = String(decided);
      show(decided);
    });
    document.getElementById("slider").hidden = false;
    // A reloaded page may come with the slider where it was left.
    slider.value = String(decided);
    show(decided);
  }

  // Two videos: why they were joined, or not.

  function answerWhy(section, { urls, pairs, hidden }) {
    const bare = (text) => text.trim().toLowerCase().replace(/^https?:\/\//, "").replace(/^[^/]*@/, "");
    const names = urls.map(bare);
    const inputs = all("[data-side]", section);
    const found = new Map(pairs.map(([first, second, ...answer]) => [`${first} ${second}`, [first, second, ...answer]]));

    function findVideo(text) {
      const exact = names.indexOf(bare(text));
      if (exact >= 0) return [exact];
      return names.flatMap((name, place) => (name.includes(bare(text)) ? [place] : []));
    }

    function answer() {
      const [one, other] = inputs.map((input) => input.value.trim());
      if (!one || !other) return [];
      const sides = [one, other].map(findVideo);
      const unclear = sides.findIndex((fitting) => fitting.length !== 1);
      if (unclear >= 0) {
        const count = sides[unclear].length;
        const which = ["first", "second"][unclear];
        return [count ? `${number.format(count)} videos fit the ${which}: give more of its URL.` : `No compared pair has a video that fits the ${which}: nothing proposed one, or it was not read.`];
      }
      const [[first], [second]] = sides;
      if (first === second) return ["Both are the same video."];
      const pair = found.get(`${first} ${second}`) ?? found.get(`${second} ${first}`);
      if (!pair) return [`These two were not compared, because nothing proposed them${hidden ? ", or their score is too low for this page" : ""}; the command explain compares them.`];
      const [left, right, score, words] = pair;
      const about = make("span", { class: "soft" }, " The first is ", make("bdi", {}, urls[left]), ", the second ", make("bdi", {}, urls[right]), ".");
      return [...(score === null ? [] : [make("strong", {}, score.toFixed(4)), ": "]), words, about];
    }

    for (const input of inputs) input.addEventListener("input", () => section.querySelector("[role=status]").replaceChildren(...answer()));
    section.hidden = false;
  }

  const compared = document.getElementById("compared");
  if (compared) answerWhy(document.getElementById("why"), JSON.parse(compared.textContent));

  const data = document.getElementById("sweep");
  if (data) startSlider(JSON.parse(data.textContent));
})();
