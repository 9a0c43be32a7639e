"use strict";
// What every page needs: embedded data, elements made of text only, long lists, blurred pictures.
const page = {
  data(id) {
    return JSON.parse(document.getElementById(id).textContent);
  },

  // An element with a class and children; strings become text, never markup.
  make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  },

  // A picture that stays blurred until its button is pressed.
  picture(source, description) {
    const button = page.make("button", "picture");
    const image = page.make("img");
    image.src = source;
    image.alt = description;
    image.loading = "lazy";
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", "Picture, may disturb: press to show or blur. " + description);
    button.append(image, page.make("span", "veil", "Show"));
    return button;
  },

  // A list that makes its rows as they scroll into view: `show(items)` starts it anew.
  lazyList(list, makeRow, step = 40) {
    const sentinel = page.make("li", "sentinel");
    let waiting = [];
    function more() {
      const rows = waiting.splice(0, step).map(makeRow);
      sentinel.before(...rows);
      if (!waiting.length) observer.unobserve(sentinel);
    }
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      more();
      // Observe anew: a sentinel that is still in view would otherwise stay silent.
      if (waiting.length) { observer.unobserve(sentinel); observer.observe(sentinel); }
    }, { rootMargin: "600px" });
    addEventListener("beforeprint", () => { while (waiting.length) more(); });
    return {
      show(items) {
        observer.unobserve(sentinel);
        waiting = items.slice();
        list.replaceChildren(sentinel);
        more();
        if (waiting.length) observer.observe(sentinel);
      },
    };
  },

  // A text in pieces, with the words that match marked by weight (0 to 1, three shades).
  highlight(text, words) {
    const shade = new Uint8Array(text.length);
    for (const [span, weight] of words) {
      const level = weight >= 0.6 ? 3 : weight >= 0.35 ? 2 : 1;
      for (const match of text.matchAll(page.pattern(span))) {
        for (let at = match.index; at < match.index + match[0].length; at++) shade[at] = Math.max(shade[at], level);
      }
    }
    const pieces = [];
    for (let start = 0, end; start < text.length; start = end) {
      for (end = start + 1; end < text.length && shade[end] === shade[start]; ) end++;
      const piece = text.slice(start, end);
      pieces.push(shade[start] ? page.make("mark", "w" + shade[start], piece) : piece);
    }
    return pieces;
  },

  // Finds a span in its text whatever the case and whatever stands between its words; never matches nothing.
  pattern(span) {
    const words = span.match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];
    if (!words.length) return /(?!)/g;
    return new RegExp("(?<![\\p{L}\\p{N}])" + words.join("[^\\p{L}\\p{N}]+") + "(?![\\p{L}\\p{N}])", "giu");
  },

  // Call `act` when typing or sliding pauses.
  later(act, milliseconds = 120) {
    let timer;
    return () => { clearTimeout(timer); timer = setTimeout(act, milliseconds); };
  },

  score(value) {
    if (value === null) return "–";
    return value >= 0.995 ? ">0.99" : value.toFixed(2);
  },

  count(number) {
    return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
  },

  percent(share) {
    return (100 * share).toFixed(1) + "%";
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.picture");
  if (button) button.setAttribute("aria-pressed", String(button.classList.toggle("shown")));
});
