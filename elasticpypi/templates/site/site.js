"use strict";
// The pages are complete without this: it filters the list of projects, or searches as one types, and copies what is to be
// pasted elsewhere.

const filter = document.querySelector("#filter");
if (filter) {
  const items = Array.from(document.querySelectorAll(".projects li"), (item) => [item.textContent, item]);
  const count = document.querySelector(".count");
  const all = count.textContent;
  const normalize = (text) => text.trim().toLowerCase().replace(/[-_.]+/g, "-");
  const apply = () => {
    const wanted = normalize(filter.value);
    let shown = 0;
    for (const [name, item] of items) {
      const isShown = name.includes(wanted);
      if (item.hidden === isShown) item.hidden = !isShown;
      shown += isShown;
    }
    count.textContent = wanted ? `${shown} of ${all}` : all;
  };
  filter.form.hidden = false;
  filter.form.addEventListener("submit", (event) => {
    event.preventDefault();
    const first = items.find(([, item]) => !item.hidden);
    if (first && filter.value) first[1].firstElementChild.click();
  });
  filter.addEventListener("input", apply);
  apply(); // what a browser remembers from before it went elsewhere
}

const search = document.querySelector("#q");
if (search) {
  let asking = new AbortController();
  const find = async () => {
    asking.abort();
    asking = new AbortController();
    const query = search.value.trim();
    const url = query ? `search?q=${encodeURIComponent(query)}` : "./";
    try {
      const response = await fetch(url, { signal: asking.signal, headers: { Accept: "text/html" } });
      if (response.status === 401) location.reload(); // to sign in again
      if (!response.ok) return;
      const found = new DOMParser().parseFromString(await response.text(), "text/html");
      document.querySelector("#results").replaceWith(found.querySelector("#results"));
      document.querySelector(".count").textContent = found.querySelector(".count").textContent;
      document.title = found.title;
      history.replaceState(null, "", url);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, 120);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  const field = document.querySelector("input[type=search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
});

// Where the index lies, a browser knows better than a server behind proxies.
for (const command of document.querySelectorAll("code[data-simple]")) {
  const url = new URL(command.dataset.simple, document.baseURI);
  [url.username, url.password] = (command.dataset.credentials ?? ":").split(":");
  const isPlain = /^[\w@%+=:,./-]+$/.test(url.href); // for a shell
  command.querySelector(".url").replaceWith(isPlain ? url.href : `'${url.href.replaceAll("'", "%27")}'`);
}

const copies = navigator.clipboard ? document.querySelectorAll("button[data-copy]") : []; // without TLS there is none
const heard = Object.assign(document.createElement("p"), { className: "unseen", role: "status" });
if (copies.length) document.querySelector("main").append(heard);
for (const button of copies) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = heard.textContent = "Copied";
    setTimeout(() => {
      button.textContent = "Copy";
      heard.textContent = "";
    }, 2000);
  });
}
