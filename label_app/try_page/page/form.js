/** What is asked: the model, files, a text. */
import { byId, element, text } from "./dom.js";

const PICTURES = ["image/png", "image/jpeg", "image/bmp"];

export class QuestionForm {
  /** `models`: as the server tells them. `onChange`: the model is another. */
  constructor(models) {
    this.models = models;
    this.images = [];
    this.mask = null;
    this.listen();
    this.choose(models[0].name);
  }

  get model() {
    return this.models.find((model) => model.name === this.chosen);
  }

  /** Whether the server has the model `name`. */
  has(name) {
    return this.models.some((model) => model.name === name);
  }

  /** Choose the model `name`. */
  choose(name) {
    this.chosen = name;
    this.write();
  }

  /** Take files of an example or of an answer. */
  fill({ images, mask = null, content = "" }) {
    this.images = images;
    this.mask = mask;
    byId("text").value = content;
    this.write();
  }

  /** The question, about the frame `frame` of a clip. */
  data(frame) {
    const { text: reads, mask, name } = this.model;
    const data = new FormData();
    data.append("model", name);
    data.append("frame", String(frame));
    if (reads) data.append("text", byId("text").value);
    for (const file of this.images.slice(0, this.model.views)) data.append("image", file);
    if (mask && this.mask) data.append("mask", this.mask);
    return data;
  }

  listen() {
    byId("drop").addEventListener("click", () => byId("image").click());
    byId("choose-mask").addEventListener("click", () => byId("mask").click());
    byId("image").addEventListener("change", (event) => this.take([...event.target.files]));
    byId("mask").addEventListener("change", (event) => this.fillMask(event.target.files[0] ?? null));
    for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
    document.addEventListener("dragover", () => byId("drop").classList.add("over"));
    document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
    document.addEventListener("drop", (event) => {
      byId("drop").classList.remove("over");
      this.take([...event.dataTransfer.files]);
    });
  }

  take(files) {
    if (files.length === 0) return;
    this.images = files;
    this.mask = null;
    byId("image").value = "";
    this.write();
  }

  fillMask(file) {
    this.mask = file;
    byId("mask").value = "";
    this.write();
  }

  /** Write what depends on the model, the files and the language. */
  write() {
    const { text: reads, mask, views } = this.model;
    byId("models").replaceChildren(...this.models.map((model) => this.option(model)));
    byId("text-part").hidden = !reads;
    if (reads) byId("text-label").textContent = text(reads);
    byId("text-hint").textContent = reads ? text(`${reads}Hint`) : "";
    byId("outline-part").hidden = !mask;
    byId("mask-name").textContent = this.mask?.name ?? text("noMask");
    byId("views").hidden = views < 2;
    byId("views").textContent = text("views", { count: views });
    const images = this.images.slice(0, views);
    byId("chosen").textContent = images.map((file) => file.name).join(", ");
    byId("thumbnails").replaceChildren(...images.filter((file) => PICTURES.includes(file.type)).map(thumbnail));
  }

  option({ name }) {
    const input = element("input", { type: "radio", name: "model", value: name, checked: name === this.chosen });
    input.addEventListener("change", () => {
      this.choose(name);
      byId("models").querySelector(":checked").focus();
    });
    const title = element("span", { className: "does" }, text(name));
    return element("label", {}, input, element("span", {}, title, element("span", { className: "hint" }, name)));
  }
}

function thumbnail(file) {
  const picture = element("img", { src: URL.createObjectURL(file), alt: "" });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  return picture;
}
