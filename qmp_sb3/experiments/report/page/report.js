"use strict";
// The page's behavior: draws the charts, and passes what the controls say on to them.
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const views = new Map(); // element -> drawn chart
  const states = new Map(); // scope -> values of its charts' parameters
  const steps = (number) => Math.round(number).toLocaleString("en-US");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const figureOf = (element) => report.figures[element.closest("[data-figure]").dataset.figure];
  const visible = (element) => !element.closest("[hidden]");

  function column(values) {
    return values.of ? values.of.map((code) => (code === null ? null : values.names[code])) : values;
  }

  function rows(columns) {
    const names = Object.keys(columns);
    const values = names.map((name) => column(columns[name]));
    return (values[0] || []).map((_, row) => Object.fromEntries(names.map((name, place) => [name, values[place][row]])));
  }

  // ---- charts ----

  function stateOf(element) {
    const scope = element.closest(".scope");
    if (!scope) return {};
    if (!states.has(scope)) states.set(scope, {});
    return states.get(scope);
  }

  function parameters(figure) {
    return (figure.spec.params || []).filter((one) => !one.select).map((one) => one.name);
  }

  // The boxes above the figure say what the colors mean.
  function withoutLegends(part) {
    for (const layer of part.layer || [part]) {
      for (const channel of Object.values(layer.encoding || {})) if (channel.legend) channel.legend = null;
    }
  }

  async function draw(element) {
    if (views.has(element)) return;
    const figure = figureOf(element);
    const spec = structuredClone(figure.spec);
    const values = { ...figure.settings, ...stateOf(element) };
    for (const one of spec.params || []) if (!one.select && values[one.name] !== undefined) one.value = values[one.name];
    withoutLegends(spec);
    spec.datasets = { rows: rows(figure.panels[element.dataset.panel]) };
    if (!spec.width) Object.assign(spec, { width: "container", autosize: { type: "fit-x", contains: "padding" } });
    try {
      // Expressions are interpreted, not compiled: the page's policy forbids to make code out of text.
      const options = { actions: false, renderer: "svg", ast: true, config: report.config };
      const { view } = await vegaEmbed(element, spec, options);
      views.set(element, view);
      connect(element, view, figure);
    } catch (error) {
      element.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  async function drawAll() {
    for (const element of all(".view")) {
      if (!views.has(element) && visible(element)) {
        await draw(element);
        await new Promise((next) => setTimeout(next));
      }
    }
    document.getElementById("drawing").hidden = true;
    document.documentElement.dataset.state = "drawn";
  }

  function tell(scope, values) {
    if (!states.has(scope)) states.set(scope, {});
    Object.assign(states.get(scope), values);
    for (const element of all(".view", scope)) {
      const view = views.get(element);
      if (!view) continue;
      const known = parameters(figureOf(element));
      for (const [name, value] of Object.entries(values)) if (known.includes(name)) view.signal(name, value);
      view.runAsync();
    }
  }

  function connect(element, view, figure) {
    const scope = element.closest(".scope");
    if ((figure.spec.params || []).some((one) => one.name === "drag")) {
      let dragged = null;
      view.addSignalListener("drag", (_, value) => (dragged = value.step || null));
      window.addEventListener("pointerup", () => {
        if (!dragged) return;
        const [from, until] = dragged;
        dragged = null;
        view.signal("drag_x", [0, 0]).runAsync();
        zoom(scope, from, until);
      });
      element.addEventListener("dblclick", () => zoom(scope, 0, Infinity));
    }
    if (figure.settings && figure.settings.media) film(element, view, figure);
  }

  // ---- controls of the learning curves ----

  function zoom(scope, from, until) {
    const controls = scope.querySelector("[data-end]");
    const end = Number(controls.dataset.end);
    from = Math.max(0, Math.min(from, end));
    until = Math.min(end, until);
    if (until - from < end / 1000) return;
    controls.querySelector("[name=from]").value = (from / end) * 1000;
    controls.querySelector("[name=until]").value = (until / end) * 1000;
    controls.querySelector(".window").textContent = `${steps(from)} to ${steps(until)} steps`;
    tell(scope, { from, until });
  }

  for (const controls of all("[data-end]")) {
    const scope = controls.closest(".scope");
    const end = Number(controls.dataset.end);
    const [from, until] = ["from", "until"].map((name) => controls.querySelector(`[name=${name}]`));
    const shown = () => all("[name=method]:checked", controls).map((box) => box.value);
    const moved = (event) => {
      // The two ends never meet: the one that is moved pushes the other.
      const gap = 10;
      if (event.target === from) until.value = Math.max(until.value, Number(from.value) + gap);
      else from.value = Math.min(from.value, Number(until.value) - gap);
      zoom(scope, (from.value / 1000) * end, (until.value / 1000) * end);
    };
    from.addEventListener("input", moved);
    until.addEventListener("input", moved);
    controls.querySelector("[name=whole]").addEventListener("click", () => zoom(scope, 0, end));
    controls.addEventListener("change", (event) => {
      const { name, type, value, checked } = event.target;
      if (name === "method") tell(scope, { shown: shown() });
      if (name === "every_run") tell(scope, { every_run: checked });
      if (type === "radio") {
        for (const part of all(".measure", scope)) part.hidden = part.dataset.measure !== value;
        drawAll();
      }
    });
    // A browser that comes back to the page restores the boxes before this runs.
    states.set(scope, { shown: shown(), every_run: controls.querySelector("[name=every_run]").checked });
    const chosen = controls.querySelector("[type=radio]:checked");
    if (chosen) for (const part of all(".measure", scope)) part.hidden = part.dataset.measure !== chosen.value;
    zoom(scope, (from.value / 1000) * end, (until.value / 1000) * end);
  }

  // ---- controls of the mixture ----

  for (const figure of all("figure.scope")) {
    figure.addEventListener("change", (event) => {
      if (event.target.name === "series") {
        tell(figure, { shown: all("[name=series]:checked", figure).map((box) => box.value) });
      }
    });
    const slider = figure.querySelector("[name=time]");
    if (!slider) continue;
    const ends = report.figures[figure.dataset.figure].settings.steps;
    const move = () => {
      const time = Number(slider.value);
      const text = `steps ${steps(time ? ends[time - 1] : 0)} to ${steps(ends[time])}`;
      figure.querySelector("output").textContent = text;
      slider.setAttribute("aria-valuetext", text);
      tell(figure, { time });
    };
    slider.addEventListener("input", move);
    move();
  }

  // ---- films ----

  function film(element, view, figure) {
    const panel = element.closest(".panel");
    const place = Number(element.dataset.panel);
    const { steps: shown, rate } = figure.settings.media[place];
    const video = panel.querySelector("video");
    const acting = panel.querySelector(".acting");
    const parts = rows(figure.panels[place]);
    if (!video) return;
    const follow = () => {
      const step = shown[Math.min(Math.floor(video.currentTime * rate), shown.length - 1)];
      const part = parts.find((one) => one.from <= step && step < one.to);
      acting.textContent = `step ${step}: ${part ? part.policy : ""}`;
      view.signal("now", step).runAsync();
      if (!video.paused) requestAnimationFrame(follow);
    };
    for (const event of ["play", "seeked", "loadeddata"]) video.addEventListener(event, follow);
    follow();
    element.addEventListener("click", (event) => {
      const left = element.querySelector("svg").getBoundingClientRect().left + view.origin()[0];
      const step = view.scale("x").invert(event.clientX - left);
      const frame = shown.findIndex((one) => one >= step);
      video.currentTime = (frame < 0 ? shown.length - 1 : frame) / rate + 0.001;
    });
  }

  // ---- numbers ----

  const MOST_ROWS = 500;

  function numbers(details) {
    const place = details.querySelector(".scroll");
    if (place.firstChild) return;
    const figure = figureOf(details);
    const several = figure.panels.length > 1;
    const headings = { ...(several ? { panel: "panel" } : {}), ...figure.headings };
    const lines = figure.panels.flatMap((columns, number) => rows(columns).map((row) => ({ panel: figure.titles[number], ...row })));
    const cell = (value) =>
      value === null || value === undefined ? "" : typeof value === "number" ? value.toLocaleString("en-US", { maximumSignificantDigits: 6 }) : String(value);
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const heading of Object.values(headings)) {
      const one = document.createElement("th");
      one.scope = "col";
      one.textContent = heading;
      head.append(one);
    }
    const body = table.createTBody();
    for (const line of lines.slice(0, MOST_ROWS)) {
      const row = body.insertRow();
      for (const name of Object.keys(headings)) row.insertCell().textContent = cell(line[name]);
    }
    const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const plain = (value) => (value === null || value === undefined ? "" : quoted(String(value)));
    const save = document.createElement("button");
    save.type = "button";
    save.textContent = `Save ${steps(lines.length)} rows as CSV`;
    save.addEventListener("click", () => {
      const text = [Object.values(headings), ...lines.map((line) => Object.keys(headings).map((name) => line[name]))];
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text.map((line) => line.map(plain).join(",")).join("\n") + "\n"], { type: "text/csv" }));
      link.download = `${details.closest("[data-figure]").dataset.figure}.csv`;
      link.click();
    });
    place.before(save);
    if (lines.length > MOST_ROWS) {
      const note = document.createElement("p");
      note.textContent = `The first ${MOST_ROWS} of ${steps(lines.length)} rows; the file has all.`;
      place.before(note);
    }
    place.append(table);
  }

  for (const details of all("details.numbers")) details.addEventListener("toggle", () => details.open && numbers(details));

  // ---- the page ----

  for (const button of all("button.copy")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }

  const theme = document.getElementById("theme");
  const themes = { system: "light", light: "dark", dark: "system" };
  theme.addEventListener("click", () => {
    const next = themes[document.documentElement.dataset.theme || "system"];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    theme.textContent = `Colors: ${next}`;
    theme.setAttribute("aria-label", `Colors: ${next === "system" ? "as the system" : next}`);
  });

  const contents = document.querySelector("nav details");
  if (window.matchMedia("(max-width: 67.99rem)").matches) contents.open = false;
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || !links.has(entry.target.id)) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id).setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "0px 0px -70% 0px" },
  );
  for (const part of all("main section[id]")) watch.observe(part);

  drawAll();
})();
