"use strict";
// The review desk: one pair at a time, every decision saved before the next appears.
(() => {
  const control = (id) => document.getElementById(id);
  const address = new URLSearchParams(location.search);
  const token = address.get("token");
  const quick = ["text and picture do not match", "the text gives the danger away", "nothing unsafe about it", "the text makes no sense", "bad picture", "in bad taste or illegal to show"];
  let reviewer = address.get("reviewer") ?? "";
  let lines = [], queue = [], place = 0, card = null, busy = false;

  // Ask the server; what it refuses or fails to answer is said on the page, and nothing moves on.
  async function ask(path, body) {
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers: { "X-Review-Token": token, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
    } catch {
      throw new Error(body ? "Not saved: the server does not answer. Start filter.review again, then press the key once more." : "The server does not answer. Start filter.review again and reload this page.");
    }
    if (answer.status === 403) throw new Error("Not allowed: " + await answer.text());
    const said = await answer.json().catch(() => null); // a broken server does not answer in JSON
    if (!answer.ok || !said) throw Object.assign(new Error(said?.error ?? "The server could not do that: the terminal it runs in says why."), { status: answer.status });
    return said;
  }

  // One thing at a time: a key pressed while another is at work is dropped, so that nobody decides on a pair
  // not seen yet; an undo waits its turn. Trouble is shown and goes with the next success.
  async function act(work, waits = false) {
    while (busy && waits) await new Promise((later) => setTimeout(later, 20));
    if (busy) return;
    busy = true;
    try {
      await work();
      control("trouble").hidden = true;
    } catch (error) {
      control("trouble").textContent = error.message;
      control("trouble").hidden = false;
    } finally {
      busy = false;
    }
  }

  const named = () => "reviewer=" + encodeURIComponent(reviewer);

  async function load() {
    try {
      lines = (await ask("/pairs?" + named())).pairs;
    } catch (error) {
      control("sign-in").hidden = error.status !== 400; // a name that cannot be
      throw error;
    }
    for (const category of new Set(lines.map((line) => line.category))) {
      if (![...control("category").options].some((option) => option.value === category)) control("category").append(new Option(category, category));
    }
    requeue();
    const known = queue.indexOf(location.hash.slice(1));
    await go(known >= 0 ? known : 0);
  }

  const wanted = {
    open: (line) => line.kept && !line.decision,
    kept: (line) => line.kept,
    approve: (line) => line.decision === "approve",
    reject: (line) => line.decision === "reject",
    edited: (line) => line.edited,
    dropped: (line) => !line.kept,
  };
  const orders = {
    made: () => 0,
    high: (a, b) => (b.leakage ?? -1) - (a.leakage ?? -1),
    spread: (a, b) => b.spread - a.spread,
  };

  function requeue() {
    const least = Number(control("least").value) || 0;
    const dispute = control("dispute").value;
    queue = lines.filter((line) => wanted[control("which").value](line)
      && (!control("category").value || line.category === control("category").value)
      && (least <= 0 || (line.leakage ?? 0) >= least)
      && (dispute !== "checks" || line.spread >= 0.5)
      && (dispute !== "people" || line.disputed))
      .sort(orders[control("order").value]).map((line) => line.id);
    showProgress();
  }

  function showProgress() {
    const kept = lines.filter((line) => line.kept);
    const decided = kept.filter((line) => line.decision);
    const approved = decided.filter((line) => line.decision === "approve").length;
    control("bar").max = Math.max(kept.length, 1);
    control("bar").value = decided.length;
    control("progress").textContent = `${page.count(decided.length)} of ${page.count(kept.length)} decided by ${reviewer}: ${page.count(approved)} approved, ${page.count(decided.length - approved)} rejected`;
  }

  async function go(to) {
    if (!queue.length) return finish();
    await show(queue[Math.max(0, Math.min(to, queue.length - 1))]);
  }

  async function show(id) {
    card = await ask("/pairs/" + encodeURIComponent(id) + "?" + named());
    if (queue.includes(id)) place = queue.indexOf(id); // only now: a server that is down moves nobody on
    history.replaceState(null, "", "#" + id);
    control("done").hidden = true;
    control("pair").hidden = control("move").hidden = false;
    render();
    focusPair();
    if (card.waiting) setTimeout(refresh, 1000, id);
  }

  // An edit's audit arrives a little later.
  function refresh(id) {
    if (!card || card.line.id !== id || !control("edit").hidden) return;
    ask("/pairs/" + encodeURIComponent(id) + "?" + named()).then((fresh) => {
      if (card.line.id !== id || !control("edit").hidden || !control("reject").hidden) return;
      card = fresh;
      note(fresh.line);
      renderWords();
      if (card.waiting) setTimeout(refresh, 1000, id);
    }, () => setTimeout(refresh, 3000, id));
  }

  function render() {
    close();
    const source = "/pictures/" + encodeURIComponent(card.line.id) + "?token=" + encodeURIComponent(token);
    const picture = page.picture(source, card.shows);
    picture.querySelector("img").addEventListener("error", () => picture.replaceWith(page.make("div", "nothing", "no picture")));
    control("picture").replaceChildren(picture);
    control("place").textContent = `${page.count(place + 1)} of ${page.count(queue.length)}`;
    renderWords();
  }

  function renderWords() {
    const line = card.line;
    control("where").textContent = `${line.category} · ${line.sub_category} · ${line.id}`;
    control("query").replaceChildren(...page.highlight(card.query, card.words), card.original ? page.make("span", "was", "was: " + card.original) : "");
    control("shows").replaceChildren(...page.highlight(card.shows, card.image_words));
    control("why").textContent = card.reason;
    control("mine").hidden = !line.decision;
    control("mine").className = "chip " + line.decision;
    control("mine").textContent = line.decision === "approve" ? "approved by you" : "rejected by you";
    control("dropped").hidden = !card.rejected;
    control("dropped").textContent = "Dropped by the filter, " + card.rejected.replaceAll("_", " ") + ". Your decision is kept as a label and does not bring it back.";
    control("others").hidden = !card.others.length;
    control("others").textContent = "Others: " + card.others.map((each) => `${each.reviewer} ${each.action}s${each.reason ? " (" + each.reason + ")" : ""}`).join("; ");
    renderScore(line);
    // Gates that passed and have nothing to say share a line.
    const silent = card.checks.filter((check) => check.passed && !check.reason && check.score === null && check.limit === null);
    const telling = card.checks.filter((check) => !silent.includes(check));
    const names = silent.map((check) => check.gate.replaceAll("_", " ")).join(", ");
    const rest = { gate: `${silent.length} more`, passed: true, reason: names, score: null, limit: null, by: "" };
    control("checks").replaceChildren(...[...telling, ...(silent.length ? [rest] : [])].map(checkRow));
  }

  function renderScore(line) {
    control("leakage").textContent = card.waiting ? "Leakage: the auditor reads the new text …" : card.unaudited ? "Leakage: not audited, the auditor does not answer. It is asked again when filter.review starts anew." : "Leakage " + page.score(line.leakage);
    const over = line.leakage > card.limit;
    control("limit").textContent = line.leakage === null ? "" : over ? `above the limit of ${card.limit}: this text cannot enter the benchmark` : `limit ${card.limit}`;
    control("level").setAttribute("width", 100 * (line.leakage ?? 0) + "%");
    control("level").setAttribute("class", over ? "high" : "low");
  }

  function checkRow(check) {
    const found = check.passed === null ? "not judged" : check.passed ? "passed" : "stopped";
    const number = (value, kind) => page.make("td", kind, value === null ? "" : value.toFixed(2));
    const text = check.reason ? page.make("td", check.passed === false ? "stopped" : "", found + ": " + check.reason) : page.make("td", "", found);
    return page.make("tr", "", page.make("td", "", check.gate.replaceAll("_", " ")), text, number(check.score, "n"), number(check.limit, "n roomy"), page.make("td", "roomy", check.by));
  }

  async function finish() {
    card = null;
    const { agreement } = await ask("/agreement");
    control("pair").hidden = control("move").hidden = true;
    control("done").hidden = false;
    const open = lines.filter((line) => line.kept && !line.decision).length;
    control("done-title").textContent = open ? "No pair fits these filters" : "All pairs are decided";
    control("done-text").textContent = open ? `${page.count(open)} are still open: change the filters above.` : "python -m data.build RUN makes the benchmark of what you approved. U takes back your last decision.";
    control("agreement").hidden = !agreement.length;
    control("kappas").replaceChildren(...agreement.map((each) => page.make("tr", "",
      page.make("td", "", `${each.one} and ${each.other}`), page.make("td", "n", page.count(each.pairs)),
      page.make("td", "n", page.percent(each.share)), page.make("td", "n", each.kappa === null ? "not defined" : each.kappa.toFixed(2)))));
  }

  function note(line) {
    lines[lines.findIndex((each) => each.id === line.id)] = line;
    showProgress();
  }

  async function decide(action, fields) {
    try {
      card = await ask("/decisions", { reviewer, pair: card.line.id, action, shown: card.query, ...fields });
    } catch (error) {
      if (error.status === 409) await show(card.line.id); // somebody else edited it
      throw error;
    }
    note(card.line);
    if (action === "edit") {
      render();
      focusPair();
      if (card.waiting) setTimeout(refresh, 1000, card.line.id);
    } else if (control("which").value === "open") {
      queue = queue.filter((id) => id !== card.line.id);
      await go(place);
    } else if (place + 1 < queue.length) {
      await go(place + 1);
    } else {
      render();
    }
  }

  async function undo() {
    const { pair } = await ask("/undo", { reviewer });
    if (!pair) throw new Error("There is nothing to undo.");
    lines = (await ask("/pairs?" + named())).pairs;
    requeue();
    if (!queue.includes(pair)) queue.splice(place, 0, pair);
    await go(queue.indexOf(pair));
  }

  function open(form, field) {
    close();
    form.hidden = false;
    control("actions").hidden = true;
    field.focus();
    field.select();
  }

  function close() {
    for (const id of ["edit", "reject"]) control(id).hidden = true;
    control("actions").hidden = false;
  }

  function focusPair() { control("pair").focus({ preventScroll: true }); }

  const keys = {
    a: () => card && act(() => decide("approve")),
    r: () => { if (card) { control("reason").value = ""; open(control("reject"), control("reason")); } },
    e: () => { if (card) { control("edited").value = card.query; open(control("edit"), control("edited")); } },
    u: () => act(undo, true),
    arrowright: () => card && act(() => go(place + 1)),
    arrowleft: () => card && act(() => go(place - 1)),
    v: () => control("picture").querySelector("button")?.click(),
    c: () => { control("more").open = !control("more").open; },
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && card) { close(); focusPair(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === control("reason") && !control("reason").value && quick[event.key - 1]) {
      event.preventDefault();
      act(() => decide("reject", { reason: quick[event.key - 1] }));
      return;
    }
    if (event.target === control("edited") && event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      control("edit").requestSubmit();
      return;
    }
    if (event.target.matches("input, textarea, select")) return;
    const key = keys[event.key.toLowerCase()];
    if (key) { event.preventDefault(); key(); }
  });

  for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", () => keys[button.dataset.key]());
  for (const button of document.querySelectorAll("[data-cancel]")) button.addEventListener("click", () => { close(); focusPair(); });
  quick.forEach((reason, index) => {
    const button = page.make("button", "", page.make("kbd", "", String(index + 1)), " " + reason);
    button.type = "button";
    button.addEventListener("click", () => act(() => decide("reject", { reason })));
    control("quick").append(button);
  });
  control("reject").addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => decide("reject", { reason: control("reason").value.trim() }));
  });
  control("edit").addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => decide("edit", { instruction: control("edited").value }));
  });
  for (const id of ["which", "category", "dispute", "order"]) control(id).addEventListener("change", () => act(async () => { requeue(); await go(0); }));
  control("least").addEventListener("input", page.later(() => act(async () => { requeue(); await go(0); })));

  control("sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    reviewer = control("name").value.trim();
    if (!reviewer) return;
    address.set("reviewer", reviewer);
    history.replaceState(null, "", "?" + address + location.hash);
    begin();
  });

  function begin() {
    control("sign-in").hidden = Boolean(reviewer);
    control("filters").hidden = !reviewer;
    control("filters").open = matchMedia("(min-width: 821px)").matches;
    if (reviewer) act(load);
    else control("name").focus();
  }
  begin();
})();
