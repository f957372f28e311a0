// Ask the search of a built site, with the scripts and the index of that site: `node search.js SITE QUERY...`.
// Prints a JSON array: for each query the pages found, best first.
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const [site, ...queries] = process.argv.slice(2);
const browser = vm.createContext({
  document: { getElementById: () => null }, // the progress indicator, which has nothing to show here
  localStorage: { setItem: () => {} },
  SPHINX_HIGHLIGHT_ENABLED: false,
  _: (text) => text,
  _ready: () => {}, // the page is never ready, so it reads no query from its address
});
vm.runInContext("window = globalThis", browser);
const page = fs.readFileSync(path.join(site, "search.html"), "utf8");
const scripts = [...page.matchAll(/<script src="([^"?]*(?:stemmer|language_data|searchtools)\.js)/g)].map((match) => match[1]);
for (const script of [...scripts, "searchindex.js"])
  vm.runInContext(fs.readFileSync(path.join(site, script), "utf8"), browser);
const ask = vm.runInContext("(query) => Search._performSearch(...Search._parseQuery(query))", browser);

// The search keeps its best result last.
const pages = (query) => [...new Set(ask(query).reverse().map(([name]) => name))];
console.log(JSON.stringify(queries.map(pages)));
