"use strict";
// Sends files of any size as /api/v1/uploads takes them: straight to the storage by requests that the index has signed,
// or in parts through it. Whatever goes wrong on the way, the next step is the same: begin again, which tells how much
// has arrived. Without this the page has a plain form.

// SHA-256 (FIPS 180-4), of bytes that come piece by piece: WebCrypto wants a whole file in memory, and TLS.
const roots = (root, count) => {
  const primes = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  return Int32Array.from(primes, (prime) => Math.floor((root(prime) % 1) * 2 ** 32));
};
const rounds = roots(Math.cbrt, 64);
const words = new Int32Array(64);

class Sha256 {
  state = roots(Math.sqrt, 8);
  rest = new Uint8Array(64); // what does not fill a block yet
  size = 0;

  update(bytes) {
    const before = this.size % 64;
    const taken = before ? Math.min(64 - before, bytes.length) : 0;
    this.size += bytes.length;
    this.rest.set(bytes.subarray(0, taken), before);
    if (before && before + taken < 64) return;
    if (before) digest(this.state, this.rest);
    const end = bytes.length - ((bytes.length - taken) % 64);
    digest(this.state, bytes.subarray(taken, end));
    this.rest.set(bytes.subarray(end));
  }

  hex() {
    const padding = new Uint8Array(((119 - (this.size % 64)) % 64) + 9);
    const view = new DataView(padding.buffer);
    padding[0] = 0x80;
    view.setUint32(padding.length - 8, Math.floor(this.size / 2 ** 29)); // the number of bits has 64 bits
    view.setUint32(padding.length - 4, (this.size % 2 ** 29) * 8);
    this.update(padding);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

// Takes in whole blocks. The rounds are written out four at a time, so that variables change names and not values.
function digest(state, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const k = rounds, w = words;
  // One by one: out of an iterator they would not be known to be integers, at twice the time.
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (let at = 0; at < bytes.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    for (let i = 0; i < 64; i += 4) {
      h = (h + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) + (g ^ (e & (f ^ g))) + k[i] + w[i]) | 0;
      d = (d + h) | 0;
      h = (h + (((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) + ((a & b) | (c & (a | b)))) | 0;
      g = (g + (((d >>> 6) | (d << 26)) ^ ((d >>> 11) | (d << 21)) ^ ((d >>> 25) | (d << 7))) + (f ^ (d & (e ^ f))) + k[i + 1] + w[i + 1]) | 0;
      c = (c + g) | 0;
      g = (g + (((h >>> 2) | (h << 30)) ^ ((h >>> 13) | (h << 19)) ^ ((h >>> 22) | (h << 10))) + ((h & a) | (b & (h | a)))) | 0;
      f = (f + (((c >>> 6) | (c << 26)) ^ ((c >>> 11) | (c << 21)) ^ ((c >>> 25) | (c << 7))) + (e ^ (c & (d ^ e))) + k[i + 2] + w[i + 2]) | 0;
      b = (b + f) | 0;
      f = (f + (((g >>> 2) | (g << 30)) ^ ((g >>> 13) | (g << 19)) ^ ((g >>> 22) | (g << 10))) + ((g & h) | (a & (g | h)))) | 0;
      e = (e + (((b >>> 6) | (b << 26)) ^ ((b >>> 11) | (b << 21)) ^ ((b >>> 25) | (b << 7))) + (d ^ (b & (c ^ d))) + k[i + 3] + w[i + 3]) | 0;
      a = (a + e) | 0;
      e = (e + (((f >>> 2) | (f << 30)) ^ ((f >>> 13) | (f << 19)) ^ ((f >>> 22) | (f << 10))) + ((f & g) | (h & (f | g)))) | 0;
      let moved = a; a = e; e = moved;
      moved = b; b = f; f = moved;
      moved = c; c = g; g = moved;
      moved = d; d = h; h = moved;
    }
    a = state[0] = (state[0] + a) | 0; b = state[1] = (state[1] + b) | 0;
    c = state[2] = (state[2] + c) | 0; d = state[3] = (state[3] + d) | 0;
    e = state[4] = (state[4] + e) | 0; f = state[5] = (state[5] + f) | 0;
    g = state[6] = (state[6] + g) | 0; h = state[7] = (state[7] + h) | 0;
  }
}

// One file on its way ------------------------------------------------------------------------------------------------

const PIECE_BYTES = 2 ** 20; // hashed at once, some milliseconds; in between the page answers
const LEAST_PART_BYTES = 512 * 1024; // nginx takes 1 MiB if nobody has told it otherwise
const WAITS_SECONDS = [1, 2, 5, 10, 20]; // before what was interrupted is tried again
const FINISHING_SECONDS = [2, 3, 5, 10, 20, ...Array(40).fill(30)]; // 20 minutes: longer than Lambda works on it
const OUTCOMES = {
  created: "Stored and listed.",
  unchanged: "Was there already with the same bytes; nothing has changed.",
  replaced: "Has replaced other bytes.",
};

class RefusedError extends Error {} // trying again does not help
class PassingError extends Error {} // it may

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

class Upload {
  // `show(state, bytes, problem)` is told how far it is, and what it waits for to pass.
  constructor(file, url, csrf, show) {
    Object.assign(this, { file, url, csrf, show, sha256: null, partBytes: null, received: 0 });
  }

  // Returns what the index says of the file in the end.
  async run() {
    this.sha256 ??= await this.read();
    for (let failures = 0; ; failures++) {
      const before = this.received;
      try {
        return await this.send();
      } catch (error) {
        if (!(error instanceof PassingError)) throw error;
        if (this.received > before) failures = 0;
        if (failures === WAITS_SECONDS.length) throw error;
        this.partBytes &&= Math.max(LEAST_PART_BYTES, this.partBytes >> 2); // what is small is interrupted less often
        this.show("waiting", this.received, error.message);
        await sleep(error.seconds ?? WAITS_SECONDS[failures]);
      }
    }
  }

  async read() {
    const hash = new Sha256();
    for (let at = 0; at < this.file.size; at += PIECE_BYTES) {
      this.show("reading", at);
      try {
        hash.update(new Uint8Array(await this.file.slice(at, at + PIECE_BYTES).arrayBuffer()));
      } catch {
        throw new RefusedError("it cannot be read, or has changed since it was chosen");
      }
    }
    return hash.hex();
  }

  async send() {
    const { name: filename, size } = this.file;
    let slot = await this.ask("POST", this.url, JSON.stringify({ filename, size, sha256: this.sha256 }));
    if (slot.status) return slot;
    this.received = slot.received;
    this.show("sending", this.received);
    if (!slot.puts) await this.sendParts(slot);
    while (slot.puts) {
      for (const put of slot.puts) await this.put(put);
      if (this.received >= size) break;
      slot = await this.ask("POST", this.url, JSON.stringify({ filename, size, sha256: this.sha256 }));
      if (!slot.puts?.length) throw new PassingError("what was sent has not arrived, or somebody else is sending it too");
      this.received = slot.received;
    }
    return await this.finish(slot);
  }

  async sendParts(slot) {
    this.partBytes ??= Math.max(slot["part-bytes"], LEAST_PART_BYTES);
    const url = new URL(slot["parts-url"], this.url);
    while (this.received < this.file.size) {
      const end = Math.min(this.received + this.partBytes, this.file.size);
      const headers = { "X-CSRF-Token": this.csrf, "Upload-Offset": this.received };
      this.readAnswer(await this.transfer("PATCH", url, headers, this.received, end));
      this.received = end;
    }
  }

  async put({ url, headers, offset, size }) {
    const answer = await this.transfer("PUT", url, headers, offset, offset + size);
    if (answer.status < 200 || answer.status > 299) throw storageError(answer);
    this.received += size;
  }

  // Sends some bytes of the file; fetch would not tell how far it is.
  transfer(method, url, headers, start, end) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const before = this.received;
      request.open(method, url);
      for (const [name, value] of Object.entries(headers)) {
        if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value); // browsers know it themselves
      }
      request.upload.onprogress = (event) => this.show("sending", before + Math.min(event.loaded, end - start));
      request.onload = () => resolve({ status: request.status, text: request.responseText });
      request.onerror = () => reject(new PassingError(method === "PUT" ? NO_STORAGE : BROKEN));
      request.send(this.file.slice(start, end));
    });
  }

  async finish(slot) {
    this.show("finishing", this.file.size);
    let answer = await this.ask("POST", new URL(slot["finish-url"], this.url));
    for (const seconds of FINISHING_SECONDS) {
      if (answer.status !== "finishing") return answer;
      await sleep(seconds);
      answer = await this.ask("GET", new URL(slot["status-url"], this.url));
      if ("received" in answer) throw new PassingError("the index has forgotten that it was checking it");
    }
    throw new RefusedError("all bytes are there, but checking them takes very long; look at the page of the project later");
  }

  async ask(method, url, body) {
    const headers = { "X-CSRF-Token": this.csrf };
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(url, { method, headers, body });
      return this.readAnswer({ status: response.status, text: await response.text() });
    } catch (error) {
      if (error instanceof RefusedError || error instanceof PassingError) throw error;
      throw new PassingError(BROKEN);
    }
  }

  readAnswer({ status, text }) {
    let answer = {};
    try {
      answer = JSON.parse(text);
    } catch {
      // A proxy or a gateway has answered in its own words.
    }
    if (status >= 200 && status < 300) return answer;
    const sentence = answer.message ?? `the index answered ${status}`;
    const isElsewhere = status === 404 || (status === 409 && "received" in answer);
    const isTooLarge = status === 413 && this.partBytes > LEAST_PART_BYTES;
    if (isTooLarge) throw Object.assign(new PassingError(sentence), { seconds: 0 });
    throw status === 0 || status === 429 || status >= 500 || isElsewhere ? new PassingError(sentence) : new RefusedError(sentence);
  }
}

const BROKEN = "the connection broke, or there was none";
const NO_STORAGE =
  "the storage cannot be reached from this page; if that stays so, whoever runs the index lets browsers send files " +
  "to the bucket by elasticpypi doctor --fix";
// After these another signature, or another look at what is there, may help.
const PASSING = [403, 404, 409, 412, 429];
const PASSING_CODES = ["ExpiredToken", "RequestTimeout", "RequestTimeTooSkewed", "SlowDown"];

function storageError({ status, text }) {
  const found = new DOMParser().parseFromString(text, "text/xml");
  const [code, message] = ["Code", "Message"].map((name) => found.querySelector(name)?.textContent ?? "");
  const sentence = `the storage answered ${[status, code, message].filter(Boolean).join(" ")}`;
  const isPassing = PASSING.includes(status) || status >= 500 || PASSING_CODES.includes(code);
  return isPassing ? new PassingError(sentence) : new RefusedError(sentence);
}

// The page -----------------------------------------------------------------------------------------------------------

const STATES = { reading: "Reading", sending: "Sending" };
const AT_ONCE = 2;

const form = document.querySelector("#upload");
if (form) {
  const list = document.querySelector("#uploads");
  const status = document.querySelector("#upload-status");
  const url = new URL(form.dataset.uploads, document.baseURI);
  const waiting = [];
  const counts = { all: 0, done: 0, failed: 0 };
  let running = 0;

  const tell = (last = "") => {
    const parts = [`${counts.done} of ${counts.all} file${counts.all === 1 ? "" : "s"} uploaded`];
    if (counts.failed) parts.push(`${counts.failed} failed`);
    const heard = document.createElement("span"); // seen in its row
    heard.className = "unseen";
    heard.textContent = last;
    status.replaceChildren(`${parts.join(", ")}. `, heard);
  };

  const add = (file) => {
    const row = makeRow(file);
    const upload = new Upload(file, url, form.elements.csrf.value, (state, bytes, problem) => {
      row.item.dataset.state = state;
      row.progress.value = file.size ? bytes / file.size : 1;
      if (state === "waiting") row.said.textContent = `Trying again: ${problem}`;
      else if (state === "finishing") row.said.textContent = "Checking …";
      else row.said.textContent = `${STATES[state]} ${describeSize(bytes)} of ${describeSize(file.size)}`;
    });
    const start = () => {
      row.retry.hidden = true;
      row.progress.hidden = false;
      row.said.textContent = "Waiting";
      waiting.push([upload, row]);
      work();
    };
    row.retry.addEventListener("click", () => {
      counts.failed--;
      tell();
      start();
    });
    list.append(row.item);
    counts.all++;
    start();
  };

  const work = async () => {
    if (running === AT_ONCE || !waiting.length) return;
    const [upload, row] = waiting.shift();
    let said = "";
    running++;
    try {
      const answer = await upload.run();
      row.item.dataset.state = "done";
      said = row.said.textContent = OUTCOMES[answer.status];
      const link = document.createElement("a");
      link.href = new URL(`${encodeURIComponent(answer.project)}/`, new URL(form.dataset.project, document.baseURI));
      link.textContent = `Look at ${answer.project}`;
      row.said.append(" ", link);
      counts.done++;
    } catch (error) {
      row.item.dataset.state = "failed";
      said = `${error instanceof RefusedError ? "Refused" : "Failed"}: ${error.message.replace(/\.$/, "")}.`;
      row.said.textContent = said;
      row.retry.hidden = error instanceof RefusedError;
      counts.failed++;
    }
    row.progress.hidden = true;
    running--;
    tell(`${row.name}: ${said}`);
    work();
  };

  const addAll = (files) => {
    for (const file of files) add(file);
    tell();
  };

  const input = document.querySelector("#files");
  input.multiple = true;
  input.required = false;
  form.querySelector("button").hidden = true;
  document.querySelector("#most")?.remove();
  input.removeAttribute("aria-describedby");
  form.querySelector("label").textContent = "Drop wheels and source distributions here, or choose them";
  form.classList.add("drop");
  const take = () => {
    addAll(input.files);
    input.value = ""; // so that the same file can be chosen again
  };
  input.addEventListener("change", take);
  if (input.files.length) take(); // somebody was quicker than this script
  form.addEventListener("submit", (event) => event.preventDefault());
  // Anywhere on the page: what misses the place by a little would have the browser leave it for the file.
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      form.classList.toggle("over", name === "dragover");
      if (name === "drop") addAll(event.dataTransfer.files);
    });
  }
  addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault();
  });
}

function makeRow(file) {
  const item = document.createElement("li");
  const make = (tag, properties) => {
    const element = Object.assign(document.createElement(tag), properties);
    item.append(element);
    return element;
  };
  make("span", { className: "filename", textContent: file.name });
  make("span", { className: "size", textContent: describeSize(file.size) });
  const progress = make("progress", { value: 0, max: 1, ariaLabel: file.name });
  const said = make("span", { className: "said" });
  const retry = make("button", { type: "button", textContent: "Try again", hidden: true, ariaLabel: `Try ${file.name} again` });
  return { name: file.name, item, progress, said, retry };
}

function describeSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${["", "kB", "MB", "GB", "TB"][power]}`;
}
