// The form for a new task: attachments, models of the chosen agent, Ctrl+Enter.
import { api, ChosenFiles, sendOnCtrlEnter, toast } from "./common.js";

const form = document.getElementById("new");
const target = document.getElementById("target");
const prompt = document.getElementById("prompt");
const models = document.getElementById("models");
const every = [...models.options];
const files = new ChosenFiles(
  document.getElementById("files"),
  document.getElementById("chosen"),
  form,
);
document.getElementById("attachments").hidden = false;

const DRAFT = "ctrlnode-draft";
if (!prompt.value) prompt.value = sessionStorage.getItem(DRAFT) ?? "";
prompt.addEventListener("input", () => sessionStorage.setItem(DRAFT, prompt.value));
sendOnCtrlEnter(prompt);

/** Only the models of the chosen agent's provider, each once. */
function chosen() {
  const option = target.selectedOptions[0];
  const seen = new Set();
  models.replaceChildren(...every.filter((one) => {
    if (one.dataset.provider !== option?.dataset.provider || seen.has(one.value)) return false;
    seen.add(one.value);
    return true;
  }));
  if (option && !option.disabled) localStorage.setItem("ctrlnode-target", target.value);
}
const last = localStorage.getItem("ctrlnode-target");
const usual = [...target.options].find((one) => one.value === last && !one.disabled);
if (usual && !target.querySelector("option[selected]")) usual.selected = true;
target.addEventListener("change", chosen);
chosen();

const path = document.getElementById("path");

function place() {
  path.required = form.elements.mode.value === "repository";
}
form.addEventListener("change", place);
place();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const option = target.selectedOptions[0];
  if (!option || option.disabled) {
    toast("Choose an agent that is available.");
    return;
  }
  const data = new FormData(form);
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  try {
    const mode = data.get("mode") === "repository"
      ? { mode: "repository", path: String(data.get("path")).trim() }
      : { mode: "output" };
    const tuning = {};
    for (const [key, field] of [["model", "model"], ["mode", "agent_mode"], ["effort", "effort"]]) {
      const said = String(data.get(field)).trim();
      if (said) tuning[key] = said;
    }
    const task = await api("POST", "/api/v1/tasks", {
      machine: option.dataset.machine,
      agent: option.dataset.agent,
      prompt: prompt.value,
      mode,
      tuning,
      attachments: await files.encoded(),
    });
    sessionStorage.removeItem(DRAFT);
    location.assign(`/tasks/${encodeURIComponent(task.id)}`);
  } catch (error) {
    toast(error.message);
    button.disabled = false;
  }
});
