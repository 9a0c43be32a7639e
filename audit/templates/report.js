"use strict";
// The threshold slider, and the table of pairs.
(() => {
  const rows = page.data("pairs-data");
  const steps = page.data("steps-data");
  const control = (id) => document.getElementById(id);
  const slider = control("threshold");
  const threshold = () => (slider ? Number(slider.value) : 0.5);

  function moveThreshold() {
    const at = threshold();
    control("threshold-value").textContent = at.toFixed(2);
    steps.names.forEach((_, place) => {
      const line = control("scores-" + place + "-line");
      if (!line) return;
      line.setAttribute("x1", 100 * at + "%");
      line.setAttribute("x2", 100 * at + "%");
      control("scores-" + place + "-above").firstElementChild.setAttribute("x", 100 * at + "%");
    });
    control("effect").replaceChildren(...effects(Math.round(100 * at)));
  }

  function effects(step) {
    const said = steps.names.map((name, place) => steps.above[place].length
      ? page.make("li", "", page.make("strong", "", page.percent(steps.above[place][step])), steps.names.length > 1 ? " of " + name : " of the counted pairs")
      : page.make("li", "", name + ": nothing counted"));
    if (steps.calm.length) {
      said.push(page.make("li", "muted", page.make("strong", "", page.percent(steps.calm[step])), " of the leak-free calibration pairs would be counted too"));
    }
    return said;
  }

  function scoreBar(value) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    drawing.setAttribute("width", "100%");
    drawing.setAttribute("height", "5");
    drawing.setAttribute("aria-hidden", "true");
    for (const [kind, width] of [["rail", 100], [value >= threshold() ? "high" : "plain", 100 * value]]) {
      const bar = document.createElementNS(space, "rect");
      bar.setAttribute("class", kind);
      bar.setAttribute("width", width + "%");
      bar.setAttribute("height", "100%");
      bar.setAttribute("rx", "2");
      drawing.append(bar);
    }
    return drawing;
  }

  function makeScore(row) {
    if (row.leakage === null) return page.make("div", "score", page.make("span", "chip unscored", "not scored"), page.make("div", "", row.because));
    return page.make("div", "score",
      page.make("div", "value" + (row.leaks ? " leaking" : ""), page.score(row.leakage)),
      scoreBar(row.leakage),
      row.leaks ? page.make("span", "chip leak", "flagged") : null,
      page.make("div", "", row.p === null ? "" : "p = " + row.p.toPrecision(2)),
      page.make("div", "", row.harm === null ? "" : "text harm " + page.score(row.harm)),
      row.alike === null ? null : page.make("div", "", "picture and query: z = " + row.alike.toFixed(1)),
      row.harmless ? page.make("div", "", "harmless twin") : null);
  }

  function side(className, label, kind, text, words, ...rest) {
    const content = text ? page.highlight(text, words) : [page.make("span", "empty", "none")];
    const said = page.make("div", kind + " text", ...content);
    if (text.length > 700) { said.classList.add("long"); said.tabIndex = 0; } // it scrolls: keys must reach it
    return page.make("div", className, page.make("div", "label", label), said, ...rest);
  }

  function makeRow(row) {
    const named = steps.names.length > 1 ? steps.names[row.source] + " · " : "";
    const origin = { author: "described by its authors", caption: "caption", ocr: "text in the picture" }[row.from] ?? row.from;
    const frame = row.picture ? page.picture(row.picture, row.shows) : page.make("div", "nothing", row.image ? "picture not in this page" : "no picture");
    return page.make("li", "row",
      table.classList.contains("pictured") ? page.make("div", "frame", frame) : null,
      side("said", "Query", "query", row.query, row.words[0], page.make("div", "where", named + row.id + (row.category ? " · " + row.category : ""))),
      side("seen", row.shows && origin ? "Picture · " + origin : "Picture", "shows", row.shows, row.words[1], row.note ? page.make("div", "where", row.note) : null),
      makeScore(row));
  }

  const table = control("rows");
  const list = page.lazyList(table, makeRow);
  const haystack = rows.map((row) => [row.id, row.query, row.shows, row.category].join("\n").toLowerCase());
  rows.forEach((row, place) => { row.place = place; });
  const least = (value, otherwise) => value ?? otherwise;
  const orders = {
    high: (a, b) => least(b.leakage, -1) - least(a.leakage, -1),
    low: (a, b) => least(a.leakage, 2) - least(b.leakage, 2),
    p: (a, b) => least(a.p, 2) - least(b.p, 2) || least(b.leakage, -1) - least(a.leakage, -1),
    harm: (a, b) => least(b.harm, -1) - least(a.harm, -1),
    input: (a, b) => a.source - b.source || a.n - b.n,
  };
  const shows = {
    all: () => true,
    flagged: (row) => row.leaks,
    above: (row) => row.leakage !== null && !row.harmless && row.leakage >= threshold(),
    unscored: (row) => row.leakage === null,
  };

  function update() {
    const words = control("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const category = control("category").value;
    const source = control("source") ? control("source").value : "";
    const wanted = rows.filter((row) => shows[control("which").value](row)
      && (!category || row.category === category)
      && (!source || row.source === Number(source))
      && words.every((word) => haystack[row.place].includes(word)));
    list.show(wanted.sort(orders[control("order").value]));
    control("shown").textContent = page.count(wanted.length) + (wanted.length === 1 ? " pair" : " pairs");
  }

  const categories = [...new Set(rows.map((row) => row.category))].filter(Boolean).sort();
  for (const category of categories) control("category").append(new Option(category, category));
  control("category-label").hidden = !categories.length;
  control("search").addEventListener("input", page.later(update));
  for (const id of ["which", "source", "category", "order"]) control(id)?.addEventListener("change", update);
  if (slider) {
    slider.addEventListener("input", moveThreshold);
    slider.addEventListener("change", update);
    moveThreshold();
  }
  update();
})();
