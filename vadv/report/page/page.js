"use strict";
(() => {
  // Tables: a heading is a button; empty cells stay last either way.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const first = [...body.rows];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (before === "descending") { body.append(...first); return; }
      const sign = before === "ascending" ? -1 : 1;
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const numeric = head.classList.contains("num");
      const key = (row) => {
        const cell = row.cells[column];
        if (!numeric) return cell.textContent.trim().toLowerCase();
        return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
      };
      const sorted = first.map((row) => [key(row), row]).sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (numeric ? a - b : a.localeCompare(b));
      });
      body.append(...sorted.map(([, row]) => row));
    }));
  }

  // A link to a run opens its details.
  const unfold = () => {
    const aim = /^#run-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (aim) aim.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  // Clips. What comes from a dataset goes into text nodes and attributes set by name only.
  const data = JSON.parse(document.getElementById("clip-data").textContent);
  const [run, order, sign, search, count, list, more] = ["run", "order", "label", "search", "count", "list", "more"]
    .map((name) => document.getElementById(`clip-${name}`));
  const PAGE = 24;
  const NAMES = { label: "label", text: "student", video: "teacher, video", prompt: "teacher, prompts" };
  const SVG = "http://www.w3.org/2000/svg";
  let shown = PAGE;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const number = (value) => value.toFixed(2).replace("-", "−");

  // A scale from -3 to 3: diamond label, circle student, square video, ring prompts. Shapes tell without colour.
  const scale = (values) => {
    const x = (value) => 150 + 45 * Math.max(-3.2, Math.min(3.2, value));
    const svg = draw("svg", { viewBox: "0 0 300 34", "aria-hidden": "true", focusable: "false" });
    svg.append(draw("line", { class: "axis", x1: x(-3), x2: x(3), y1: 13, y2: 13 }));
    for (let tick = -3; tick <= 3; tick++) {
      svg.append(draw("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 9, y2: 17 }));
      svg.append(draw("text", { x: x(tick), y: 30, "text-anchor": "middle" }, String(tick).replace("-", "−")));
    }
    const shapes = {
      prompt: (at) => draw("circle", { class: "prompt", cx: at, cy: 13, r: 5 }),
      video: (at) => draw("rect", { class: "video", x: at - 4, y: 9, width: 8, height: 8 }),
      text: (at) => draw("circle", { class: "text", cx: at, cy: 13, r: 4.5 }),
      label: (at) => draw("path", { class: "label", d: `M${at} 6l5 7-5 7-5-7z` }),
    };
    for (const name of ["prompt", "video", "label", "text"]) {
      if (values[name] !== undefined) svg.append(shapes[name](x(values[name])));
    }
    return svg;
  };
  const MARKS = { label: "◆", text: "●", video: "■", prompt: "○" };

  const card = (clip) => {
    const values = { label: clip.label, ...clip.logits };
    const item = make("li", { class: "clip" });
    if (clip.strip !== null) {
      item.append(make("img", { src: data.strips[clip.strip], alt: `Frames of clip ${clip.id}`, loading: "lazy", width: 576, height: 96 }));
    }
    item.append(clip.text.trim() ? make("blockquote", {}, clip.text) : make("blockquote", { class: "empty" }, "no words"));
    item.append(scale(values));
    const terms = make("dl");
    for (const name of ["label", "text", "video", "prompt"]) {
      if (values[name] === undefined) continue;
      terms.append(make("div", {}, make("dt", {}, `${MARKS[name]} ${NAMES[name]}`), make("dd", {}, number(values[name]))));
    }
    item.append(terms);
    const gap = clip.gap === null ? "" : `, from the teacher ${number(clip.gap)}`;
    item.append(make("p", { class: "about" }, `${clip.dataset} · ${clip.id} · off by ${number(clip.error)}${gap}`));
    return item;
  };

  const SIGNS = { negative: (label) => label < 0, zero: (label) => label === 0, positive: (label) => label > 0 };
  const ORDERS = {
    error: (a, b) => b.error - a.error,
    gap: (a, b) => (b.gap ?? -1) - (a.gap ?? -1),
    label: (a, b) => a.label - b.label || b.error - a.error,
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.clips.filter((clip) => clip.run === Number(run.value)
      && (!sign.value || SIGNS[sign.value](clip.label))
      && words.every((word) => `${clip.text} ${clip.id}`.toLowerCase().includes(word))).sort(ORDERS[order.value]);
    list.replaceChildren(...found.slice(0, shown).map(card));
    count.textContent = data.clips.length
      ? `${found.length} ${found.length === 1 ? "clip" : "clips"}${found.length > shown ? `, the first ${shown} shown` : ""}`
      : "No run of this report has predictions of single clips.";
    more.hidden = found.length <= shown;
  };
  run.append(...data.runs.map((name, index) => make("option", { value: index }, name)));
  for (const control of [run, order, sign, search]) {
    control.addEventListener("input", () => { shown = PAGE; update(); });
  }
  more.addEventListener("click", () => {
    const next = shown;
    shown += PAGE;
    update();
    // Go on where the list grew, also for a keyboard.
    const card = list.children[next];
    if (card) { card.tabIndex = -1; card.focus(); }
  });
  update();
})();
