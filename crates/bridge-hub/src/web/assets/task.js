// One task, live. The hub's events arrive over SSE. Text is appended as it comes, by textContent;
// everything else is fetched as rendered fragments: "what changed after event N".
//
// A fragment is true up to its own number. Text that arrived with a higher number is kept in
// `fresh` and put behind the fragment again, so nothing is lost and nothing is doubled, whatever
// overtakes what.
import { api, ChosenFiles, fragment, localiseTimes, sendOnCtrlEnter, toast } from "./common.js";

const root = document.getElementById("task");
const stream = document.getElementById("stream");
const base = `/tasks/${encodeURIComponent(root.dataset.task)}`;
const apiBase = `/api/v1${base}`;

let heard = Number(root.dataset.seq);
let shown = heard;
let fresh = [];

// Following the end of the stream, unless the reader scrolled up.
const jump = document.getElementById("jump");
let following = true;

function atEnd() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 120;
}

function follow() {
  if (following) window.scrollTo({ top: document.documentElement.scrollHeight });
  jump.hidden = following;
}

window.addEventListener("scroll", () => {
  following = atEnd();
  if (following) jump.hidden = true;
}, { passive: true });
jump.addEventListener("click", () => {
  following = true;
  follow();
});

// Text as it comes.
function liveElement({ run, block }) {
  const kind = block === null ? "thinking" : "text";
  for (const element of stream.querySelectorAll(`[data-live="${kind}"]`)) {
    if (element.dataset.run === run && (block === null || element.dataset.block === block)) return element;
  }
  return null;
}

/** Puts a piece of text on the page, unless it stands there already. */
function append(piece) {
  if (piece.node?.isConnected) return true;
  const element = liveElement(piece);
  if (!element) return false;
  piece.node = document.createTextNode(piece.text);
  element.append(piece.node);
  return true;
}

// A reader that listens hears finished items, not syllables.
function setWriting(yes) {
  document.getElementById("log").setAttribute("aria-busy", String(yes));
}

function onText(piece) {
  setWriting(true);
  fresh.push(piece);
  if (!append(piece)) refreshIn(30);
  else if (piece.text.includes("\n")) refreshIn(400);
  follow();
}

// Fragments.
let timer = 0;
let due = Infinity;
let loading = false;
let failures = 0;

function refreshIn(millis) {
  const at = performance.now() + millis;
  if (at >= due) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(refresh, millis);
}

async function refresh() {
  due = Infinity;
  if (loading) {
    refreshIn(60);
    return;
  }
  loading = true;
  try {
    show(await fragment(`${base}/fragment?after=${shown}`));
    failures = 0;
  } catch {
    failures += 1;
    refreshIn(Math.min(15000, 500 * 2 ** failures));
  } finally {
    loading = false;
  }
}

function show(page) {
  const changed = page.getElementById("fragment");
  if (!changed) return;
  const focused = document.activeElement;
  const focusKey = focused?.closest("li.item") ? whereIs(focused) : null;

  for (const node of changed.querySelectorAll("li.item")) put(document.importNode(node, true));
  replaceHead(changed.querySelector("[data-slot=head]"));

  shown = Number(changed.dataset.seq);
  heard = Math.max(heard, shown);
  fresh = fresh.filter((piece) => piece.seq > shown);
  let lost = false;
  for (const piece of fresh) lost = !append(piece) || lost;
  if (lost) refreshIn(60);

  if (focusKey && !document.contains(focused)) refocus(focusKey);
  setWriting(stream.querySelector("[data-live]") !== null);
  onStatus(changed.dataset.status);
  follow();
}

/** Puts an item where it belongs, instead of its older self if there is one. */
function put(next) {
  const old = document.getElementById(next.id);
  if (old && stream.contains(old)) {
    for (const details of old.querySelectorAll("details[id]")) {
      const same = next.querySelector(`#${CSS.escape(details.id)}`);
      if (same && details.dataset.touched) {
        same.open = details.open;
        same.dataset.touched = "1";
      }
    }
    const typed = old.querySelector("input[name=text]");
    const field = next.querySelector("input[name=text]");
    if (typed && field) field.value = typed.value;
    if (next.classList.contains("answer") && !next.hidden && sameProse(old, next)) return;
    old.replaceWith(next);
    return;
  }
  const order = Number(next.dataset.order);
  let before = null;
  for (let item = stream.lastElementChild; item; item = item.previousElementSibling) {
    if (Number(item.dataset.order) < order) break;
    before = item;
  }
  stream.insertBefore(next, before);
}

/** Only the unfinished end of a block moved: keep the finished part, and what is selected in it. */
function sameProse(old, next) {
  const [a, b] = [old.querySelector(".prose"), next.querySelector(".prose")];
  if (!a || !b || old.hidden || !a.isEqualNode(b)) return false;
  old.querySelector(".tail")?.remove();
  const tail = next.querySelector(".tail");
  if (tail) old.append(tail);
  return true;
}

function replaceHead(next) {
  const head = document.getElementById("head");
  const hadFocus = head.contains(document.activeElement);
  head.replaceChildren(...[...next.childNodes].map((node) => document.importNode(node, true)));
  if (hadFocus) head.querySelector(".cancel")?.focus({ preventScroll: true });
}

function whereIs(element) {
  const item = element.closest("li.item");
  const same = [...item.querySelectorAll("summary, button, input, pre[tabindex], a")];
  return { item: item.id, at: same.indexOf(element) };
}

function refocus({ item, at }) {
  const same = document.getElementById(item)?.querySelectorAll("summary, button, input, pre[tabindex], a");
  same?.[at]?.focus({ preventScroll: true });
}

// A reader who folded or unfolded something has decided.
stream.addEventListener("click", (event) => {
  const details = event.target.closest("summary")?.parentElement;
  if (details) details.dataset.touched = "1";
});

// Status.
const pageTitle = document.title;
const send = document.getElementById("send");
const now = document.getElementById("now");
let status = null;

function onStatus(next) {
  root.dataset.status = next;
  document.getElementById("working").hidden = next !== "running";
  document.title = next === "waiting" ? `● ${pageTitle}` : pageTitle;
  const live = ["queued", "running", "waiting"].includes(next);
  document.getElementById("stop").hidden = !live;
  if (now) now.hidden = !["running", "waiting"].includes(next);
  const title = live ? "Queue (Ctrl+Enter)" : "Send (Ctrl+Enter)";
  send.title = title;
  send.querySelector(".sr").textContent = title;
  if (status !== next && !live) loadFiles();
  status = next;
}

async function loadFiles() {
  try {
    const page = await fragment(`${base}/files`);
    const nodes = [...page.body.childNodes].map((node) => document.importNode(node, true));
    document.getElementById("files").replaceChildren(...nodes);
    follow();
  } catch {
    // The list is a convenience; the next end of a run asks again.
  }
}

// The stream of events; the browser itself reconnects with the last number it heard.
let outage = 0;

function setConnected(yes) {
  const sign = document.getElementById("connection");
  if (yes) {
    clearTimeout(outage);
    outage = 0;
    sign.hidden = true;
  } else if (!outage) {
    outage = setTimeout(() => { sign.hidden = false; }, 1500);
  }
}

function onMessage(message) {
  let stored;
  try {
    stored = JSON.parse(message.data);
  } catch {
    return;
  }
  const seq = Number(stored.seq ?? message.lastEventId);
  if (!(seq > heard)) return;
  heard = seq;
  const { run, body } = stored.event;
  const said = body.type === "seen" ? body.event : null;
  if (said?.kind === "text") onText({ seq, run: run.attempt, block: said.block, text: said.delta });
  else if (said?.kind === "thinking") onText({ seq, run: run.attempt, block: null, text: said.delta });
  else refreshIn(40);
}

function connect() {
  const source = new EventSource(`${apiBase}/events?after=${heard}`);
  source.addEventListener("open", () => setConnected(true));
  source.addEventListener("message", onMessage);
  source.addEventListener("event", onMessage);
  source.addEventListener("error", () => {
    setConnected(false);
    if (source.readyState !== EventSource.CLOSED) return;
    // Refused, not lost: the fragment finds out whether a login is needed.
    refreshIn(0);
    setTimeout(connect, 3000);
  });
}

// What a person does.
const busy = new WeakSet();

async function once(element, action) {
  if (busy.has(element)) return;
  busy.add(element);
  element.setAttribute("aria-busy", "true");
  try {
    await action();
  } catch (error) {
    toast(error.message);
  } finally {
    busy.delete(element);
    element.removeAttribute("aria-busy");
    refreshIn(60);
  }
}

stream.addEventListener("submit", (event) => {
  const card = event.target.closest("form[data-ask]");
  if (!card) return;
  event.preventDefault();
  const words = String(new FormData(card).get("text")).trim();
  const kind = event.submitter?.name;
  let answer = { type: "text", text: words };
  if (kind === "option") {
    answer = { type: "choose", option: event.submitter.value };
  } else if (!words && kind !== "deny") {
    card.elements.text.focus();
    return;
  } else if (card.querySelector("button[name=deny]")) {
    answer = { type: "deny", reason: words };
  }
  setSent(card, true);
  once(card, async () => {
    try {
      await api("POST", `${apiBase}/answer`, { ask: card.dataset.ask, digest: card.dataset.digest, answer });
      // An answer that the machine did not take leaves the question as it is.
      setTimeout(() => setSent(card, false), 5000);
    } catch (error) {
      setSent(card, false);
      throw error;
    }
  });
});

function setSent(card, yes) {
  for (const button of card.querySelectorAll("button")) button.disabled = yes;
  card.querySelector(".sent").hidden = !yes;
}

// Questions that the agent itself decides after a while.
function countDown() {
  for (const element of stream.querySelectorAll("[data-until]")) {
    const left = Math.ceil((new Date(element.dataset.until) - Date.now()) / 1000);
    if (Number.isNaN(left)) continue;
    const text = left > 90 ? `in ${Math.ceil(left / 60)} min` : left > 0 ? `in ${left} s` : "now";
    if (element.textContent !== text) element.textContent = text;
  }
}
setInterval(countDown, 500);

root.addEventListener("click", (event) => {
  const button = event.target.closest(".cancel, .interrupt");
  if (!button) return;
  const what = button.matches(".cancel") ? "cancel" : "interrupt";
  button.disabled = true;
  once(root, async () => {
    try {
      const { told } = await api("POST", `${apiBase}/${what}`);
      if (told === "on_return") toast("The machine is not connected. It is told when it comes back.");
    } finally {
      setTimeout(() => { button.disabled = false; }, 1000);
    }
  });
});

const composer = document.getElementById("composer");
const words = document.getElementById("followup");
const files = new ChosenFiles(
  document.getElementById("files-input"),
  document.getElementById("chosen"),
  composer,
);
sendOnCtrlEnter(words);

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value;
  if (!text.trim()) {
    words.focus();
    return;
  }
  // Whoever presses a key and no button lets it wait.
  const when = event.submitter?.value === "now" ? "now" : "after";
  once(composer, async () => {
    await api("POST", `${apiBase}/followups`, { text, when, attachments: await files.encoded() });
    words.value = "";
    files.clear();
    following = true;
  });
});

const tune = document.getElementById("tune");
tune?.addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = [...new FormData(tune)].map(([name, value]) => [name, value.trim()]);
  const settings = Object.fromEntries(wanted.filter(([, value]) => value));
  if (!Object.keys(settings).length) return;
  once(tune, async () => {
    const { applies } = await api("POST", `${apiBase}/tune`, settings);
    tune.reset();
    toast(applies === "now" ? "Asked for; what is in force appears above." : "Kept for the next run.");
  });
});

onStatus(root.dataset.status);
connect();
localiseTimes();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refreshIn(0);
});
if (["queued", "running", "waiting"].includes(root.dataset.status)) follow();
