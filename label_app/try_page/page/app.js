/** The page: examples, questions, answers, languages. */
import { byId, element, switchLanguage, text, writeTexts } from "./dom.js";
import { QuestionForm } from "./form.js";
import { showAnswer } from "./result.js";

const page = { form: null, examples: [], answer: null, fault: null, status: () => text("empty"), busy: false, asked: null };

async function fetchJson(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(text("offline"));
  }
  const content = await response.json().catch(() => ({ detail: response.statusText }));
  if (!response.ok) throw new Error(String(content.detail));
  return content;
}

/** Ask the chosen model about the chosen files; a question before that has no answer yet is given up. */
async function ask(frame = 1) {
  page.asked?.abort();
  if (page.form.images.length === 0) return tell({ fault: text("noImage") });
  const asked = new AbortController();
  page.asked = asked;
  const returnTo = document.activeElement?.id === "frame" ? "frame" : "answer-title";
  tell({ busy: true, status: () => text("busy") });
  showOnPhone(returnTo);
  try {
    const answer = await fetchJson("predict", { method: "POST", body: page.form.data(frame), signal: asked.signal });
    page.answer = answer;
    tell({ status: () => text("done", { model: answer.model }) });
    byId(returnTo)?.focus({ preventScroll: true });
  } catch (error) {
    if (asked.signal.aborted) return;
    page.answer = null;
    tell({ fault: error.message });
  }
  showOnPhone(returnTo);
}

/** Bring the answer into view where it lies below the form, unless another frame was asked for from there. */
function showOnPhone(returnTo) {
  if (returnTo !== "frame" && matchMedia("(max-width: 60rem)").matches) byId("answer").scrollIntoView();
}

function tell({ busy = false, status = () => "", fault = null }) {
  Object.assign(page, { busy, status, fault });
  write();
}

/** Write the answer, or why there is none. */
function write() {
  byId("status").textContent = page.status();
  byId("status").classList.toggle("busy", page.busy);
  byId("fault").textContent = page.fault ?? "";
  byId("fault").hidden = page.fault === null;
  if (page.answer === null) byId("result").replaceChildren();
  else if (!page.busy) showAnswer(page.answer, { onFrame: ask, onClassify: page.form.has("hfcn") ? classify : null });
  byId("result").ariaBusy = String(page.busy);
}

function classify(mask) {
  page.form.fill({ images: page.form.images, mask, content: byId("text").value });
  page.form.choose("hfcn");
  ask();
}

async function askExample({ id, model, text: content, files }) {
  const loaded = await Promise.all(files.map((name) => exampleFile(id, name)));
  const [image, mask] = loaded;
  page.form.choose(model);
  page.form.fill(model === "hfcn" ? { images: [image], mask, content } : { images: loaded, content });
  await ask();
}

async function exampleFile(id, name) {
  const content = await (await fetch(`examples/${id}/${name}`)).blob();
  return new File([content], name, { type: name.endsWith(".png") ? "image/png" : "application/dicom" });
}

function exampleButton(example) {
  const first = example.files[0];
  const picture = first.endsWith(".png") ? element("img", { src: `examples/${example.id}/${first}`, alt: "" }) : null;
  const told = element("span", {}, text(`example_${example.id}`), element("span", { className: "hint" }, example.model));
  const button = element("button", { type: "button", id: `example-${example.id}` }, picture ?? element("span", { className: "dicom" }, "DICOM"), told);
  button.addEventListener("click", () => askExample(example));
  return element("li", {}, button);
}

function writeAll() {
  writeTexts();
  page.form?.write();
  byId("examples").replaceChildren(...page.examples.map(exampleButton));
  write();
}

async function start() {
  writeTexts();
  byId("language").addEventListener("click", () => (switchLanguage(), writeAll()));
  byId("question").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  try {
    const models = await fetchJson("models");
    if (models.length === 0) return tell({ fault: text("noModels") });
    page.form = new QuestionForm(models);
    page.examples = await fetchJson("examples");
    writeAll();
  } catch (error) {
    tell({ fault: error.message });
  }
}

start();
