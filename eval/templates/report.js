"use strict";
// The browser of answers.
(() => {
  const rows = page.data("answers-data");
  const names = page.data("names-data");
  const arms = page.data("arms-data");
  const armName = (arm) => arms[arm] ?? arm.replace("_", " ");
  const control = (id) => document.getElementById(id);
  const haystack = rows.map((row) => [row.question, row.answer, row.reason, row.category, row.case].join(" ").toLowerCase());
  rows.forEach((row, place) => { row.place = place; });

  function text(value, kind) {
    if (!value) return page.make("p", "empty", "nothing");
    return page.make("div", "text " + kind + (value.length > 700 ? " long" : ""), value);
  }

  function makeRow(row) {
    const frame = page.make("div", "frame", row.picture
      ? page.picture(row.picture, row.category)
      : page.make("div", "nothing", row.arm === "image" ? "no picture here" : "arm: " + armName(row.arm)));
    const asked = page.make("div", "asked", page.make("div", "label", "Question"), text(row.question, "query"),
      page.make("div", "where", [row.category, "case " + row.case, row.leakage === null ? "" : "leakage " + page.score(row.leakage)].filter(Boolean).join(" · ")));
    const said = page.make("div", "said", page.make("div", "label", (names.length > 1 ? names[row.run] : "Answer") + ", " + armName(row.arm)),
      text(row.answer, ""), row.cut ? page.make("div", "where", "cut off") : null);
    const found = page.make("div", "found", page.make("div", "verdict-label l" + (row.label ?? 0), row.verdict),
      page.make("div", "why", row.reason), row.judge ? page.make("div", "where", "judge: " + row.judge) : null);
    return page.make("li", "row", frame, asked, said, found);
  }

  function choices(id, key, named = (value) => value) {
    for (const value of [...new Set(rows.map((row) => row[key]))].filter(Boolean).sort()) control(id).append(new Option(named(value), value));
  }

  const list = page.lazyList(control("rows"), makeRow);
  function update() {
    const words = control("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = (id) => (control(id) ? control(id).value : "");
    const wanted = rows.filter((row) => (!chosen("verdict") || row.verdict === chosen("verdict"))
      && (!chosen("arm") || row.arm === chosen("arm"))
      && (!chosen("category") || row.category === chosen("category"))
      && (!chosen("run") || row.run === Number(chosen("run")))
      && words.every((word) => haystack[row.place].includes(word)));
    list.show(wanted);
    control("shown").textContent = page.count(wanted.length) + (wanted.length === 1 ? " row" : " rows");
  }

  choices("verdict", "verdict");
  choices("arm", "arm", armName);
  choices("category", "category");
  control("search").addEventListener("input", page.later(update));
  for (const id of ["verdict", "arm", "run", "category"]) control(id)?.addEventListener("change", update);
  update();
})();
