// Keeps the start page up to date.
import { fragment } from "./common.js";

const home = document.getElementById("home");
let loading = false;
let again = false;

async function refresh() {
  if (document.hidden) return;
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  again = false;
  try {
    show(await fragment("/fragments/home"));
  } catch {
    // The stream notices and comes back by itself.
  } finally {
    loading = false;
    if (again) refresh();
  }
}

/** Replaces the content only when it differs; keeps what is unfolded and where the focus is. */
function show(page) {
  const open = new Set([...home.querySelectorAll("details[open][id]")].map((one) => one.id));
  for (const details of page.querySelectorAll("details[id]")) details.open = open.has(details.id);
  const next = [...page.body.childNodes].map((node) => document.importNode(node, true));
  const fresh = document.createElement("div");
  fresh.append(...next);
  const waiting = Number(fresh.querySelector("[data-waiting]")?.dataset.waiting ?? 0);
  document.title = document.title.replace(/^(\(\d+\) )?/, waiting ? `(${waiting}) ` : "");
  if (sameInside(fresh, home)) return;
  const typed = home.querySelector("#first-prompt");
  const focused = document.activeElement;
  const way = focused && home.contains(focused) ? focused.getAttribute("href") : null;
  home.replaceChildren(...fresh.childNodes);
  const again = home.querySelector("#first-prompt");
  if (typed && again) {
    again.value = typed.value;
    if (typed === focused) again.focus({ preventScroll: true });
  }
  if (way) home.querySelector(`a[href="${CSS.escape(way)}"]`)?.focus({ preventScroll: true });
}

function sameInside(a, b) {
  return a.childNodes.length === b.childNodes.length
    && [...a.childNodes].every((node, at) => node.isEqualNode(b.childNodes[at]));
}

// Marks come as often as agents speak; people do not read that fast.
let timer = 0;

function soon() {
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    refresh();
  }, 500);
}

// A hidden page listens to nothing: a browser keeps only a few connections to one host.
let source = null;

function listen() {
  source?.close();
  source = null;
  if (document.hidden) return;
  source = new EventSource("/api/v1/changes");
  source.addEventListener("open", soon);
  source.addEventListener("changed", soon);
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    soon();
  });
}

document.addEventListener("visibilitychange", listen);
listen();
