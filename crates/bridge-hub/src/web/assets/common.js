// What every page needs: the API, times in the reader's clock, messages, chosen files.

/** Calls the API. Throws an Error whose message a person can read. */
export async function api(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The hub cannot be reached. Is it running?");
  }
  if (response.status === 401) {
    toLogin();
    throw new Error("Please log in again.");
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // The status says enough.
  }
  if (response.ok) return value;
  const said = value?.error ?? value;
  const parts = [said?.message, said?.hint].filter((part) => typeof part === "string" && part);
  throw new Error(parts.map(sentence).join(" ") || `The hub answered ${response.status}.`);
}

/** To the login, and from there back to this page. */
function toLogin() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

/** Fetches a fragment the hub rendered and sanitised; the only HTML that ever gets parsed. */
export async function fragment(path, signal) {
  const response = await fetch(path, { headers: { Accept: "text/html" }, signal });
  if (response.status === 401) toLogin();
  if (!response.ok) throw new Error(`The hub answered ${response.status}.`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  localiseTimes(page);
  return page;
}

const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const long = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Shows times in the reader's own clock: recent ones as a distance, others as a date. */
export function localiseTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const minutes = Math.floor((now - at.getTime()) / 60000);
    const today = at.toDateString() === new Date(now).toDateString();
    let text = today ? short.format(at) : long.format(at);
    if (minutes >= 0 && minutes < 1) text = "just now";
    else if (minutes >= 1 && minutes < 60) text = `${minutes} min ago`;
    if (element.textContent !== text) element.textContent = text;
    element.title = full.format(at);
  }
}

let toastTimer = 0;

/** Shows a message for a while. */
export function toast(text) {
  const element = document.getElementById("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}

/** Files chosen, dropped or pasted, shown as chips. */
export class ChosenFiles {
  #files = [];
  #list;

  constructor(input, list, dropZone) {
    this.#list = list;
    input.addEventListener("change", () => {
      this.add(input.files);
      input.value = "";
    });
    dropZone.addEventListener("dragover", (event) => event.preventDefault());
    dropZone.addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
    dropZone.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) this.add(event.clipboardData.files);
    });
  }

  add(files) {
    const all = [...this.#files, ...files];
    if (all.reduce((sum, file) => sum + file.size, 0) > MAX_BYTES) {
      toast("Attachments may have 20 MB together.");
      return;
    }
    this.#files = all;
    this.#draw();
  }

  clear() {
    this.#files = [];
    this.#draw();
  }

  /** As the API wants them. */
  async encoded() {
    return Promise.all(this.#files.map(async (file) => ({ name: file.name, content: await base64(file) })));
  }

  #draw() {
    this.#list.replaceChildren(...this.#files.map((file) => {
      const item = document.createElement("li");
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.addEventListener("click", () => {
        this.#files = this.#files.filter((one) => one !== file);
        this.#draw();
      });
      item.append(file.name, remove);
      return item;
    }));
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result).split(",")[1] ?? ""));
    reader.addEventListener("error", () => reject(new Error(`${file.name} cannot be read.`)));
    reader.readAsDataURL(file);
  });
}

/** Ctrl+Enter (or Cmd+Enter) in the field sends its form. */
export function sendOnCtrlEnter(field) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    field.form.requestSubmit();
  });
}

const MAX_BYTES = 20 * 1024 * 1024;

localiseTimes();
setInterval(() => localiseTimes(), 30000);
